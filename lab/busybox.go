package lab

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// loadBusybox gives the host an image that docker run finds as busybox. No
// registry is needed: it is made from the machine's own static busybox.
func (h *Host) loadBusybox(ctx context.Context) error {
	image, err := busyboxImage(ctx)
	if err != nil {
		return err
	}
	_, err = h.feed(ctx, bytes.NewReader(image), "docker", "import", "--change", `CMD ["sh"]`, "-", "busybox:latest")
	return err
}

// busyboxImage is the tar of a root file system with busybox and a link for
// each of its commands.
func busyboxImage(ctx context.Context) ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	if err := checkStatic(path); err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := exec.CommandContext(ctx, path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("busybox --list: %w", err)
	}
	return busyboxTar(program, strings.Fields(string(list)))
}

// checkStatic refuses a program that needs a C library: the image has none.
func checkStatic(path string) error {
	file, err := elf.Open(path)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	defer func() { _ = file.Close() }()
	for _, segment := range file.Progs {
		if segment.Type == elf.PT_INTERP {
			return fmt.Errorf("%s is not static: the image needs that of Debian's package busybox-static", path)
		}
	}
	return nil
}

func busyboxTar(program []byte, applets []string) ([]byte, error) {
	headers := []*tar.Header{{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(program))}}
	for _, applet := range applets {
		if applet != "busybox" {
			headers = append(headers, &tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777})
		}
	}
	for _, dir := range []string{"dev/", "etc/", "proc/", "root/", "sys/", "tmp/", "var/www/"} {
		headers = append(headers, &tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755})
	}
	passwd := []byte("root:x:0:0:root:/root:/bin/sh\n")
	headers = append(headers, &tar.Header{Name: "etc/passwd", Typeflag: tar.TypeReg, Mode: 0o644, Size: int64(len(passwd))})

	contents := map[string][]byte{"bin/busybox": program, "etc/passwd": passwd}
	var image bytes.Buffer
	w := tar.NewWriter(&image)
	for _, header := range headers {
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(contents[header.Name]); err != nil {
			return nil, err
		}
	}
	return image.Bytes(), w.Close()
}
