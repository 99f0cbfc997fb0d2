package join

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"

	"github.com/causeway-net/causeway/trust"
)

// Whatever a stranger sends to join, he is answered in JSON; who has no token is not let in.
func FuzzJoin(f *testing.F) {
	cluster := newFirst(f)
	token := cluster.token(time.Hour)
	now := time.Now()
	request, _, err := trust.NewRequest("h2")
	must(f, err)
	applicant := Applicant{Protocol: Protocol, Host: "h2", Addrs: []netip.Addr{{}}, Clock: now, Request: request, Token: token.ID}
	body, err := json.Marshal(applicant)
	must(f, err)
	f.Add(body)
	f.Add([]byte(`{"protocol":1,"host":"h2","clock":"0000-01-01T00:00:00Z","request":"AAAA","addresses":["::1%lo",""]}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	log := logrus.New()
	log.SetLevel(logrus.PanicLevel)
	server := &Server{Dir: cluster.dir, Cluster: cluster.records, Version: "1.0", Log: logrus.NewEntry(log), Now: func() time.Time { return now }}
	calls := map[string]http.HandlerFunc{
		joinPath: handle(server, server.join), renewPath: handle(server, server.renew), authorityPath: handle(server, server.authority),
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for path, call := range calls {
			answer := httptest.NewRecorder()
			call(answer, httptest.NewRequestWithContext(t.Context(), http.MethodPost, path, strings.NewReader(string(body))))
			var said failure
			if err := json.Unmarshal(answer.Body.Bytes(), &said); err != nil || said.Err == "" || answer.Code == http.StatusOK {
				t.Errorf("%s %q is answered %d %s", path, body, answer.Code, answer.Body)
			}
		}
	})
}
