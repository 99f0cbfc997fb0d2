package rtmsg

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// State is all that makes a device the host's: its addresses, the routes that
// leave through it, and its neighbours.
type State struct {
	Addresses  []Message `json:"addresses,omitempty"`
	Routes     []Message `json:"routes,omitempty"` // and next hops
	Neighbours []Message `json:"neighbours,omitempty"`
}

// lists is for what is done alike to all three kinds.
func (s *State) lists() []*[]Message {
	return []*[]Message{&s.Addresses, &s.Routes, &s.Neighbours}
}

// On gives the state as it reads on another device.
func (s State) On(from, to Device) State {
	for _, list := range s.lists() {
		moved := make([]Message, len(*list))
		for i, m := range *list {
			moved[i] = m.On(from, to)
		}
		*list = moved
	}
	return s
}

// With adds what only other has.
func (s State) With(other State) State {
	theirs := other.lists()
	for i, list := range s.lists() {
		*list = append(slices.Clone(*list), Without(*theirs[i], *list)...)
	}
	return s
}

// Without gives the messages of list that are not in other.
func Without(list, other []Message) []Message {
	keys := make(map[string]bool, len(other))
	for _, m := range other {
		keys[m.Key()] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(m Message) bool { return keys[m.Key()] })
}

// Read lists what the kernel has on the device, each list in the order in which
// it must be made again.
func (s *Socket) Read(d Device) (State, error) {
	var have State
	var err error
	if have.Addresses, err = s.Addresses(d); err != nil {
		return State{}, err
	}
	if have.Routes, err = s.routes(d); err != nil {
		return State{}, err
	}
	neighbours, err := s.Dump(Neighbour, unix.AF_UNSPEC)
	if err != nil {
		return State{}, err
	}
	have.Neighbours = slices.DeleteFunc(onDevice(neighbours, d.Index), func(m Message) bool {
		return !m.carryable() || m.family() != unix.AF_INET && m.family() != unix.AF_INET6
	})
	return have, nil
}

func (s *Socket) Addresses(d Device) ([]Message, error) {
	all, err := s.Dump(Address, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	// The kernel lists the newest IPv6 address first, the newest IPv4 one last.
	all = onDevice(all, d.Index)
	four := slices.DeleteFunc(slices.Clone(all), Message.Is6)
	six := slices.DeleteFunc(all, func(m Message) bool { return !m.Is6() })
	slices.Reverse(six)
	return append(four, six...), nil
}

// routes lists what leaves through the device, next hops included, but for what
// the kernel makes along with an address and what has run out.
func (s *Socket) routes(d Device) ([]Message, error) {
	hops, err := s.Dump(NextHop, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // Linux 5.3 brought them
		return nil, err
	}
	four, err := s.Dump(Route, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	six, err := s.Dump(Route, unix.AF_INET6)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(slices.Concat(hops, four, six), func(m Message) bool {
		return !m.Leaves(d.Index) || m.Kind == Route && (m.madeByKernel() || m.cached())
	})
	slices.SortStableFunc(all, func(a, b Message) int { return a.rank() - b.rank() })
	return all, nil
}

func onDevice(list []Message, index int) []Message {
	return slices.DeleteFunc(list, func(m Message) bool {
		return binary.NativeEndian.Uint32(m.header[4:]) != uint32(index)
	})
}

// saved is a message in the journal: the text is for people who repair a
// host by hand.
type saved struct {
	Kind string `json:"kind"`
	Text string `json:"text"`
	Raw  string `json:"raw"` // header and attributes, base64
}

// MarshalJSON implements [json.Marshaler].
func (m Message) MarshalJSON() ([]byte, error) {
	return json.Marshal(saved{
		Kind: m.Kind.String(), Text: m.String(), Raw: base64.StdEncoding.EncodeToString(m.bytes()),
	})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *Message) UnmarshalJSON(text []byte) error {
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s.Raw)
	if err != nil {
		return err
	}
	for _, k := range []Kind{Address, Route, NextHop, Neighbour} {
		if k.String() == s.Kind {
			*m, err = parseMessage(k, raw)
			return err
		}
	}
	return fmt.Errorf("no kind of message is called %q", s.Kind)
}
