package doctor

import (
	"context"
	"fmt"
	"time"

	"github.com/causeway-net/causeway/internal/health"
)

// slow is how long a read of the store takes that delays the start of containers.
const slow = 500 * time.Millisecond

// store asks whether the store answers, and how fast. That it is away is a fault that is
// told elsewhere, if causeway has noticed.
func store(ctx context.Context, in *Inputs) ([]Finding, error) {
	began := time.Now()
	err := in.Store.Health(ctx)
	took := time.Since(began)
	for _, fault := range in.Faults {
		if err != nil && fault.Part == health.Store {
			return nil, nil
		}
	}
	switch {
	case err != nil:
		return []Finding{{
			Severity: Problem, Scope: "the store", Cause: "The store does not answer this host: no container starts, those that run keep their traffic.",
			Evidence: err.Error(), Remedy: remedies()[health.Store],
		}}, nil
	case took > slow:
		return []Finding{{
			Severity: Warning, Scope: "the store", Cause: "The store is slow: containers start late.",
			Evidence: fmt.Sprintf("a read took %s", took.Round(time.Millisecond)),
			Remedy:   "See that the disks of the hosts that hold it are fast and not shared with heavy writers, and that the way to them is not congested (etcd's own log names slow writes).",
		}}, nil
	}
	return nil, nil
}
