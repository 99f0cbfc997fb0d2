package nicmove

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// state is all that makes a device the host's: its addresses, the routes that
// leave through it, and its neighbours.
type state struct {
	Addresses  []message `json:"addresses,omitempty"`
	Routes     []message `json:"routes,omitempty"` // and next hops
	Neighbours []message `json:"neighbours,omitempty"`
}

// lists is for what is done alike to all three kinds.
func (s *state) lists() []*[]message {
	return []*[]message{&s.Addresses, &s.Routes, &s.Neighbours}
}

// on gives the state as it reads on another device.
func (s state) on(from, to device) state {
	for _, list := range s.lists() {
		moved := make([]message, len(*list))
		for i, m := range *list {
			moved[i] = m.on(from, to)
		}
		*list = moved
	}
	return s
}

// with adds what only other has.
func (s state) with(other state) state {
	theirs := other.lists()
	for i, list := range s.lists() {
		*list = append(slices.Clone(*list), without(*theirs[i], *list)...)
	}
	return s
}

// without gives the messages of list that are not in other.
func without(list, other []message) []message {
	keys := make(map[string]bool, len(other))
	for _, m := range other {
		keys[m.key()] = true
	}
	return slices.DeleteFunc(slices.Clone(list), func(m message) bool { return keys[m.key()] })
}

// read lists what the kernel has on the device, each list in the order in which
// it must be made again.
func (k *kernel) read(d device) (state, error) {
	var s state
	var err error
	if s.Addresses, err = k.addresses(d); err != nil {
		return state{}, err
	}
	if s.Routes, err = k.routes(d); err != nil {
		return state{}, err
	}
	neighbours, err := k.dump(neighbour, unix.AF_UNSPEC)
	if err != nil {
		return state{}, err
	}
	s.Neighbours = slices.DeleteFunc(onDevice(neighbours, d.index), func(m message) bool {
		return !m.carryable() || m.family() != unix.AF_INET && m.family() != unix.AF_INET6
	})
	return s, nil
}

func (k *kernel) addresses(d device) ([]message, error) {
	all, err := k.dump(address, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	// The kernel lists the newest IPv6 address first, the newest IPv4 one last.
	all = onDevice(all, d.index)
	four := slices.DeleteFunc(slices.Clone(all), message.is6)
	six := slices.DeleteFunc(all, func(m message) bool { return !m.is6() })
	slices.Reverse(six)
	return append(four, six...), nil
}

// routes lists what leaves through the device, next hops included, but for what
// the kernel makes along with an address and what has run out.
func (k *kernel) routes(d device) ([]message, error) {
	hops, err := k.dump(nextHop, unix.AF_UNSPEC)
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // Linux 5.3 brought them
		return nil, err
	}
	four, err := k.dump(route, unix.AF_INET)
	if err != nil {
		return nil, err
	}
	six, err := k.dump(route, unix.AF_INET6)
	if err != nil {
		return nil, err
	}
	all := slices.DeleteFunc(slices.Concat(hops, four, six), func(m message) bool {
		return !m.leaves(d.index) || m.kind == route && (m.madeByKernel() || m.cached())
	})
	slices.SortStableFunc(all, func(a, b message) int { return a.rank() - b.rank() })
	return all, nil
}

func onDevice(list []message, index int) []message {
	return slices.DeleteFunc(list, func(m message) bool {
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
func (m message) MarshalJSON() ([]byte, error) {
	return json.Marshal(saved{
		Kind: m.kind.String(), Text: m.String(), Raw: base64.StdEncoding.EncodeToString(m.bytes()),
	})
}

// UnmarshalJSON implements [json.Unmarshaler].
func (m *message) UnmarshalJSON(text []byte) error {
	var s saved
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	raw, err := base64.StdEncoding.DecodeString(s.Raw)
	if err != nil {
		return err
	}
	for _, k := range []kind{address, route, nextHop, neighbour} {
		if k.String() == s.Kind {
			*m, err = parseMessage(k, raw)
			return err
		}
	}
	return fmt.Errorf("no kind of message is called %q", s.Kind)
}
