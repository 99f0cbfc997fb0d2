package test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/causeway-net/causeway/trust"
)

// reports has a maintainer given what h2 and h1 know, while causeway runs and while not.
func reports(c *cluster) {
	if c.host(1).managed() {
		c.Skip("the folder of a managed plugin is found by hand")
	}
	token, err := c.host(1).try("causeway", "token", "--quiet", "--ttl", "1h")
	if err != nil {
		c.Fatal(err)
	}
	const name = "reported"
	c.network(name, "--subnet=192.168.80.0/28")
	c.host(1).run("reported1", "--net="+name)
	c.host(1).docker("network", "create", "--label", "leaked="+token, "leaky")
	secrets := c.secrets(1, token)

	files, said := c.report(1)
	for file, want := range map[string]string{
		"status.json": `"version"`, "doctor.json": `"findings"`, "records.jsonl": `"name":"reported"`, "own-records.json": name,
		"log": "causeway serves", "docker/version.json": `"ApiVersion"`, "docker/networks.json": "leaked", "kernel/sysctl": "net/ipv4/ip_forward",
		"kernel/ip_-d_-s_link": "lo:", "kernel/nft_list_ruleset": "causeway-tunnels", "kernel/ip_netns_list": "causeway-", "missing": "",
	} {
		if text, there := files[file]; !there || !bytes.Contains(text, []byte(want)) {
			c.Errorf("%s has no %q: %.300s\n%s", file, want, text, said)
		}
	}
	c.hasNone(files, secrets)
	c.Log(said)
	c.host(1).docker("network", "rm", "leaky")

	if err := c.host(1).Causeway.Kill(c.Context()); err != nil {
		c.Fatal(err)
	}
	files, said = c.report(1)
	if !strings.Contains(said, "missing: status.json") || !bytes.Contains(files["missing"], []byte("does not answer")) {
		c.Errorf("without an agent nothing is said to be missing: %s", said)
	}
	if !bytes.Contains(files["own-records.json"], []byte(name)) || !bytes.Contains(files["kernel/ip_-d_-s_link"], []byte("lo:")) {
		c.Errorf("without an agent there is little: %s", said)
	}
	c.hasNone(files, secrets)
	if err := c.host(1).Causeway.Restart(c.Context()); err != nil {
		c.Fatal(err)
	}
}

// report makes one on a host, and gives its files and what was said.
func (c *cluster) report(n int) (files map[string][]byte, said string) {
	c.Helper()
	const path = "/var/lib/causeway/report.tar.gz"
	said, err := c.host(n).try("sh", "-c", "rm -f "+path+"; causeway report "+path+" 2>&1")
	if err != nil {
		c.Fatalf("%v: %s", err, said)
	}
	packed, err := os.ReadFile(c.host(n).Path(path))
	if err != nil {
		c.Fatal(err)
	}
	plain, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		c.Fatal(err)
	}
	files = make(map[string][]byte)
	for archive := tar.NewReader(plain); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files, said
		}
		if err != nil {
			c.Fatal(err)
		}
		if files[strings.TrimPrefix(header.Name, "causeway-report/")], err = io.ReadAll(archive); err != nil {
			c.Fatal(err)
		}
	}
}

// secrets are the keys of a host's folder and the token, in all the forms that they may have.
func (c *cluster) secrets(n int, token string) map[string][]byte {
	c.Helper()
	parsed, err := trust.ParseToken(token)
	if err != nil {
		c.Fatal(err)
	}
	found := map[string][]byte{
		"the token": []byte(token), "its secret": parsed.Secret[:], "its secret in hex": []byte(hex.EncodeToString(parsed.Secret[:])),
		"its hash": []byte(parsed.Hash()),
	}
	keys := 0
	err = filepath.WalkDir(c.host(n).Path("/var/lib/causeway"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || strings.Contains(path, "/etcd/") || strings.HasSuffix(path, ".gz") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var device struct{ Private string }
		if json.Unmarshal(text, &device) == nil && device.Private != "" {
			keys++
			found[path] = []byte(device.Private)
			if found[path+" in bytes"], err = base64.StdEncoding.DecodeString(device.Private); err != nil {
				return err
			}
		}
		for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
			if !strings.Contains(block.Type, "PRIVATE") {
				continue
			}
			keys++
			found[path+" in DER"] = block.Bytes
			for line := range strings.SplitSeq(string(pem.EncodeToMemory(block)), "\n") {
				if line != "" && !strings.HasPrefix(line, "--") {
					found[path+": "+line[:4]] = []byte(line)
				}
			}
		}
		return nil
	})
	if err != nil || keys < 3 {
		c.Fatalf("only %d keys are in the folder of h%d: %v", keys, n, err)
	}
	return found
}

func (c *cluster) hasNone(files map[string][]byte, secrets map[string][]byte) {
	c.Helper()
	for name, text := range files {
		for what, secret := range secrets {
			if bytes.Contains(text, secret) {
				c.Errorf("%s of the report has %s", name, what)
			}
		}
	}
}
