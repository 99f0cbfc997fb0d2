package test

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strconv"
	"time"
)

// metricsPort is where the hosts of TestClosedCluster offer their figures.
const metricsPort = "9468"

// figures asks h1 as a Prometheus on a machine without Docker does: over TLS, with the
// cluster's authority. A container does not get there.
func figures(c *cluster) {
	before := c.scrape()
	const name = "counted"
	c.network(name, "--subnet=192.168.79.0/28")
	one, two := c.host(1).run("counted1", "--net="+name), c.host(2).run("counted2", "--net="+name)
	one.pings(two.addr(name))
	joins := `causeway_handler_duration_seconds_count{handler="NetworkDriver.Join"}`
	eventually(c.T, "the figures move", func() error {
		after := c.scrape()
		for figure, want := range map[string]float64{
			joins:            before[joins] + 1,
			"causeway_hosts": 2,
			`causeway_network_endpoints{network="counted"}`:                    2,
			`causeway_network_local_endpoints{network="counted"}`:              1,
			`causeway_network_addresses_used{family="ipv4",network="counted"}`: 3,
			`causeway_network_addresses_free{family="ipv4",network="counted"}`: 11,
			`causeway_store_up`: 1,
		} {
			if after[figure] != want {
				return fmt.Errorf("%s is %v, want %v", figure, after[figure], want)
			}
		}
		for _, figure := range []string{
			`causeway_network_receive_packets_total{network="counted"}`, `causeway_network_transmit_bytes_total{network="counted"}`,
			`causeway_reconciles_total{kind="whole",mode="vxlan"}`, `causeway_store_request_duration_seconds_count{operation="commit"}`,
		} {
			if after[figure] <= before[figure] {
				return fmt.Errorf("%s is %v, and was %v", figure, after[figure], before[figure])
			}
		}
		if left := time.Until(time.Unix(int64(after["causeway_certificate_expiry_timestamp_seconds"]), 0)); left < 24*time.Hour || left > 40*24*time.Hour {
			return fmt.Errorf("the certificate is good for %s", left)
		}
		return nil
	})
	err := inside(one.pid(), func() error {
		conn, err := net.DialTimeout("tcp", "10.99.0.1:"+metricsPort, time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	})
	if err == nil {
		c.Error("a container reaches the figures of its host")
	}
}

// scrape reads the figures of h1.
func (c *cluster) scrape() map[string]float64 {
	c.Helper()
	// A managed plugin alone has its folder there.
	authority, err := os.ReadFile(fmt.Sprintf("/proc/%d/root/var/lib/causeway/trust/ca.pem", c.host(1).Causeway.PID()))
	if err != nil {
		c.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	conn, err := dialFrom(c.machine("plain").PID(), "10.99.0.1:"+metricsPort)
	if err != nil {
		c.Fatal(err)
	}
	secure := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "10.99.0.1"})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialTLS: func(string, string) (net.Conn, error) { return secure, nil }}}
	begun := time.Now()
	response, err := client.Get("https://10.99.0.1/metrics")
	if err != nil {
		c.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		c.Fatalf("%s, %v: %s", response.Status, err, text)
	}
	c.Logf("a scrape of %d bytes took %s", len(text), time.Since(begun))
	found := make(map[string]float64)
	for _, line := range regexp.MustCompile(`(?m)^(\w+(?:\{.*\})?) (\S+)$`).FindAllStringSubmatch(string(text), -1) {
		if found[line[1]], err = strconv.ParseFloat(line[2], 64); err != nil {
			c.Fatal(err)
		}
	}
	return found
}
