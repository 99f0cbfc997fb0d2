package ui

import (
	"context"
	"time"

	"github.com/causeway-net/causeway/internal/talk"
)

// Conversations, by who measured them and the ends: this host every two seconds, the others
// with each examination.
const (
	talkHereKind  = "talk/here/"
	talkThereKind = "talk/there/"
	countingKey   = "counting"
	// countAgain is how long after a host could not count it is asked again.
	countAgain = time.Minute
)

// Counting says why this host does not count who talks to whom; empty: it does.
type Counting struct {
	Error string `json:"error"`
}

// ear asks who talks to whom on this host.
type ear struct {
	source Source
	hub    *hub
	after  time.Time // when it is asked again
}

func (l *ear) listen(ctx context.Context) {
	if time.Now().Before(l.after) {
		return
	}
	all, err := l.source.Talk(ctx)
	var said Counting
	if err != nil {
		said.Error = err.Error()
		l.after = time.Now().Add(countAgain)
	}
	l.hub.put(countingKey, said)
	l.hub.replace(talkHereKind, shownTalk(all))
}

// shownTalk gives conversations by NETWORK/ENDPOINT/PEER.
func shownTalk(all []talk.Conversation) map[string]any {
	shown := make(map[string]any, len(all))
	for _, c := range all {
		shown[c.Network+"/"+c.Endpoint+"/"+c.Peer.String()] = c
	}
	return shown
}
