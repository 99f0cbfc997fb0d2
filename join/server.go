package join

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sirupsen/logrus"
	"golang.org/x/net/netutil"

	"github.com/causeway-net/causeway/trust"
)

const (
	// maxSkew is how far a host's clock may be off: certificates and leases are
	// of no use with more.
	maxSkew = 5 * time.Minute
	// maxBody is far above what a host sends.
	maxBody = 64 << 10
	// deadline of a call, and of reading its request.
	deadline = 20 * time.Second
	// maxConnections bounds what strangers can hold open.
	maxConnections = 64
)

// Server admits hosts. It runs where the authority's key is.
type Server struct {
	Dir     trust.Dir
	Cluster Cluster
	Version string
	Log     *logrus.Entry
	// Now is the clock; nil means this host's.
	Now func() time.Time
}

func (s *Server) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

// Serve answers on listener until ctx ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+joinPath, handle(s, s.join))
	mux.HandleFunc("POST "+renewPath, handle(s, s.renew))
	mux.HandleFunc("POST "+authorityPath, handle(s, s.authority))
	server := &http.Server{
		Handler: mux, ReadTimeout: deadline, WriteTimeout: deadline, IdleTimeout: deadline, MaxHeaderBytes: 8 << 10,
		ErrorLog: log.New(io.Discard, "", 0), // strangers who fail the handshake are no fault
	}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	err := server.Serve(tls.NewListener(netutil.LimitListener(listener, maxConnections), s.Dir.Server(false)))
	if errors.Is(err, http.ErrServerClosed) && ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve hosts that join: %w", err)
}

// refusal is an error that the new host's user reads.
type refusal struct{ error }

// Refusal makes err one that the new host's user reads.
func Refusal(err error) error { return refusal{err} }

func refuse(format string, args ...any) error { return refusal{fmt.Errorf(format, args...)} }

type failure struct {
	Err string `json:"error"`
}

func handle[Req, Resp any](s *Server, method func(context.Context, *tls.ConnectionState, *Req) (*Resp, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), deadline)
		defer cancel()
		request := new(Req)
		err := json.NewDecoder(io.LimitReader(r.Body, maxBody)).Decode(request)
		if err != nil {
			answer(w, http.StatusBadRequest, failure{"the request is not valid JSON: " + err.Error()})
			return
		}
		response, err := method(ctx, r.TLS, request)
		switch {
		case err == nil:
			answer(w, http.StatusOK, response)
		case errors.As(err, new(refusal)):
			s.Log.WithField("from", r.RemoteAddr).Warnf("a host was not admitted: %v", err)
			answer(w, http.StatusForbidden, failure{err.Error()})
		default:
			s.Log.WithField("from", r.RemoteAddr).WithError(err).Warn("a host could not be admitted")
			answer(w, http.StatusServiceUnavailable, failure{err.Error()})
		}
	}
}

func answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the host hung up
}

// join admits a host that has a token.
func (s *Server) join(ctx context.Context, _ *tls.ConnectionState, applicant *Applicant) (*Admission, error) {
	if err := s.fits(applicant); err != nil {
		return nil, err
	}
	token, ok, err := s.Cluster.Token(ctx, applicant.Token)
	if err != nil {
		return nil, err
	}
	// A secret that is wrong is answered as a token that is not known.
	if !ok || !trust.SameHash(token.Hash, trust.HashSecret(applicant.Secret)) {
		return nil, refuse("the token is not known in this cluster: it was removed, or it is another's; \"causeway token\" makes one")
	}
	if now := s.now(); now.After(token.Expires) {
		return nil, refuse("the token expired at %s: \"causeway token\" makes another", token.Expires.UTC().Format(time.DateTime))
	}
	if err := s.Cluster.Admit(ctx, *applicant); err != nil {
		return nil, err
	}
	admission, err := s.admit(ctx, applicant, "")
	if err == nil {
		s.Log.WithField("host", applicant.Host).Infof("host joined with token %s", applicant.Token)
	}
	return admission, err
}

// renew gives a host another certificate, for the one that it shows.
func (s *Server) renew(ctx context.Context, state *tls.ConnectionState, applicant *Applicant) (*Admission, error) {
	shown, err := known(state)
	if err != nil {
		return nil, err
	}
	host := shown.Subject.CommonName
	if applicant.Host != host {
		return nil, refuse("host %s asked for the certificate of host %s", host, applicant.Host)
	}
	if err := s.fits(applicant); err != nil {
		return nil, err
	}
	return s.admit(ctx, applicant, shown.SerialNumber.String())
}

// known is the certificate that a host has shown, and the handshake verified.
func known(state *tls.ConnectionState) (*x509.Certificate, error) {
	if state == nil || len(state.PeerCertificates) == 0 {
		return nil, refuse("this takes the certificate of a host of the cluster")
	}
	return state.PeerCertificates[0], nil
}

// fits refuses a host that could not work in the cluster.
func (s *Server) fits(applicant *Applicant) error {
	switch skew := applicant.Clock.Sub(s.now()); {
	case applicant.Protocol != Protocol:
		return refuse("this host has causeway %s, and the cluster %s: bring both to one version", applicant.Version, s.Version)
	case skew.Abs() > maxSkew:
		return refuse("the clock of this host is off by %s: set it, then join again", skew.Round(time.Second))
	case applicant.Host == "":
		return refuse("the request names no host")
	}
	return nil
}

func (s *Server) admit(ctx context.Context, applicant *Applicant, renews string) (*Admission, error) {
	authority, err := s.Dir.Authority()
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	certificate, err := authority.Sign(applicant.Request, applicant.Host, applicant.Addrs, s.now())
	if err != nil {
		return nil, refusal{err}
	}
	signed, err := trust.ParseCertificates(certificate)
	if err != nil {
		return nil, err
	}
	if err := s.Cluster.Issued(ctx, applicant.Host, signed[0], renews); err != nil {
		return nil, err
	}
	admission := &Admission{Certificate: certificate}
	if admission.Authorities, err = s.Dir.CA(); err != nil {
		return nil, err
	}
	if admission.Revoked, err = os.ReadFile(s.Dir.CRLFile()); err != nil && !trust.IsNotThere(err) {
		return nil, err
	}
	if admission.Members, err = s.Cluster.Members(ctx); err != nil {
		return nil, err
	}
	admission.Store, err = s.Cluster.Store(ctx)
	return admission, err
}

// authority hands the authority's key to a host of the cluster.
func (s *Server) authority(_ context.Context, state *tls.ConnectionState, _ *struct{}) (*authorityAnswer, error) {
	if _, err := known(state); err != nil {
		return nil, err
	}
	authority, err := s.Dir.Authority()
	if err != nil {
		return nil, fmt.Errorf("read the authority: %w", err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return nil, err
	}
	bundle, err := s.Dir.CA()
	return &authorityAnswer{Authorities: bundle, Key: key}, err
}
