package browser

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// patience is how long an answer is waited for.
const patience = 30 * time.Second

// wire carries messages of the DevTools protocol: JSON, each with a zero byte behind it.
type wire struct {
	commands, answers *os.File
	done              chan struct{}

	mu      sync.Mutex // guards what follows, and writes
	last    int
	waiting map[int]chan message
	heard   func(message)
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

func newWire(commands, answers *os.File) *wire {
	w := &wire{commands: commands, answers: answers, done: make(chan struct{}), waiting: map[int]chan message{}}
	go w.read()
	return w
}

func (w *wire) read() {
	defer close(w.done)
	reader := bufio.NewReaderSize(w.answers, 1<<20)
	for {
		text, err := reader.ReadBytes(0)
		if err != nil {
			return // the browser has ended
		}
		var m message
		if json.Unmarshal(text[:len(text)-1], &m) != nil {
			continue
		}
		w.mu.Lock()
		answer, heard := w.waiting[m.ID], w.heard
		delete(w.waiting, m.ID)
		w.mu.Unlock()
		switch {
		case answer != nil:
			answer <- m
		case m.Method != "" && heard != nil:
			heard(m)
		}
	}
}

// call sends a command to a session, and decodes its result into result; nil: nobody
// wants it.
func (w *wire) call(session, method string, params, result any) error {
	if params == nil {
		params = struct{}{}
	}
	text, err := json.Marshal(params)
	if err != nil {
		return err
	}
	answer := make(chan message, 1)
	w.mu.Lock()
	w.last++
	m := message{ID: w.last, Session: session, Method: method, Params: text}
	w.waiting[m.ID] = answer
	text, err = json.Marshal(m)
	if err == nil {
		_, err = w.commands.Write(append(text, 0))
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	select {
	case m := <-answer:
		if m.Error != nil {
			return fmt.Errorf("%s: %s", method, m.Error.Message)
		}
		if result == nil {
			return nil
		}
		return json.Unmarshal(m.Result, result)
	case <-w.done:
		return errors.New(method + ": the browser has ended")
	case <-time.After(patience):
		return fmt.Errorf("%s: no answer within %s", method, patience)
	}
}

func (w *wire) listen(heard func(message)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.heard = heard
}

func (w *wire) close() {
	w.commands.Close()
	w.answers.Close()
	<-w.done
}
