package nl

import (
	"cmp"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/causeway-net/causeway/fabric"
)

// Failures are the errors of many entries: the first, and how many there are.
type Failures struct {
	first error
	count int
	// Doubt says that the kernel may not be as it is known to be, or it would not
	// have failed. It refuses a family that it does not have in any case.
	Doubt bool
}

// Add counts err, if it is one. An error of [fabric.ErrPartial] raises no doubt.
func (f *Failures) Add(err error) {
	if err != nil {
		f.first = cmp.Or(f.first, err)
		f.count++
		f.Doubt = f.Doubt || !errors.Is(err, unix.EAFNOSUPPORT) && !errors.Is(err, fabric.ErrPartial)
	}
}

// Err is nil without failures, and a [fabric.ErrPartial] where they raise no doubt.
func (f *Failures) Err() error {
	err := f.first
	if f.count > 1 {
		err = fmt.Errorf("%w (and %d more entries)", err, f.count-1)
	}
	if err != nil && !f.Doubt && !errors.Is(err, fabric.ErrPartial) {
		err = fmt.Errorf("%w: %w", fabric.ErrPartial, err)
	}
	return err
}
