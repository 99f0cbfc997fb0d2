package agent

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"slices"

	"github.com/causeway-net/causeway/internal/plugin"
	"github.com/causeway-net/causeway/kvstore"
	"github.com/causeway-net/causeway/records"
)

const (
	recordsPath = "/Agent.Records"
	recentPath  = "/Agent.RecentLog"
)

// openPrefixes are those of the records that no secret is in, nor the hash of one.
func openPrefixes() []string {
	return []string{
		records.HostsPrefix, records.AlivePrefix, records.NetworksPrefix, records.NamesPrefix, records.VNIsPrefix,
		records.AttachmentsPrefix, records.MembersPrefix, records.EndpointsPrefix, records.PoolsPrefix, records.UsersPrefix,
		records.BlocksPrefix, records.AddressesPrefix, records.QuorumPrefix, records.RevokedPrefix,
	}
}

// handleReport answers "causeway report".
func handleReport(server *plugin.Server, config Config) {
	plugin.Stream(server, recordsPath, func(ctx context.Context, w io.Writer) error {
		for _, prefix := range openPrefixes() {
			snapshot, err := config.Store.List(kvstore.FailFast(ctx), prefix)
			if err != nil {
				return err
			}
			for _, key := range slices.Sorted(maps.Keys(snapshot.Items)) {
				if err := writeRecord(w, snapshot.Items[key]); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if config.Recent != nil {
		plugin.Stream(server, recentPath, func(_ context.Context, w io.Writer) error { return config.Recent.write(w) })
	}
}

// writeRecord writes a line. A value that is no JSON is written as a string.
func writeRecord(w io.Writer, item kvstore.Item) error {
	line := struct {
		Key      string `json:"key"`
		Revision int64  `json:"revision"`
		Value    any    `json:"value"`
	}{item.Key, item.Revision, string(item.Value)}
	if json.Valid(item.Value) {
		line.Value = json.RawMessage(item.Value)
	}
	return json.NewEncoder(w).Encode(line)
}

// Records writes the cluster's records to w, one a line, without what is secret.
func (c *Client) Records(ctx context.Context, w io.Writer) error {
	return c.stream(ctx, recordsPath, w)
}

// RecentLog writes the last lines of the agent's log to w.
func (c *Client) RecentLog(ctx context.Context, w io.Writer) error {
	return c.stream(ctx, recentPath, w)
}
