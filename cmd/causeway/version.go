package main

import (
	"cmp"
	"runtime/debug"
)

// stamped is set by the Makefile's -ldflags -X.
var stamped string //nolint:gochecknoglobals // the linker can set nothing else

// version is what the Makefile stamped, else what the go command did.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return stamped
	}
	return cmp.Or(stamped, info.Main.Version)
}
