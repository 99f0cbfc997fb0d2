package doctor

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/causeway-net/causeway/trust"
)

// expiresSoon is how long before its end a certificate that nobody renews by itself is
// told of.
const expiresSoon = 14 * 24 * time.Hour

// certificates are those that the user has to renew: a closed cluster renews its own, and
// tells of it as a fault where it cannot.
func certificates(_ context.Context, in *Inputs) (found []Finding, err error) {
	for _, path := range in.Certificates {
		text, err := os.ReadFile(path)
		if err != nil {
			return found, fmt.Errorf("read a certificate for the store: %w", err)
		}
		chain, err := trust.ParseCertificates(text)
		if err != nil {
			return found, fmt.Errorf("read the certificates in %s: %w", path, err)
		}
		for _, certificate := range chain {
			left := time.Until(certificate.NotAfter)
			if left > expiresSoon {
				continue
			}
			f := Finding{
				Severity: Warning, Scope: thisHost, Cause: fmt.Sprintf("The certificate in %s expires soon; the store is out of reach from then on.", path),
				Evidence: fmt.Sprintf("%s is valid until %s", certificate.Subject, certificate.NotAfter.Local().Format(time.DateTime)),
				Remedy:   "Put a new one in its place, and start causeway again.",
			}
			if left <= 0 {
				f.Severity, f.Cause = Problem, fmt.Sprintf("The certificate in %s has expired: the store is out of reach.", path)
			}
			found = append(found, f)
		}
	}
	return found, nil
}
