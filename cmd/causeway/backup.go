package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/causeway-net/causeway/agent"
	"github.com/causeway-net/causeway/cluster"
	"github.com/causeway-net/causeway/kvstore"
)

func backupCommand() *cobra.Command {
	var socket string
	command := &cobra.Command{
		Use: "backup FILE", Short: "Write a snapshot of the cluster's records to a file", Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			size, err := writeWhole(args[0], func(w io.Writer) error {
				return agent.NewClient(socket).Backup(command.Context(), w)
			})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s has the records of the cluster (%d kB); \"causeway restore\" makes a store of it\n", args[0], size>>10)
			return err
		},
	}
	agentFlag(command, &socket)
	return command
}

// writeWhole writes a file for root alone. What is there already stays until the
// new one is whole.
func writeWhole(path string, write func(io.Writer) error) (size int64, err error) {
	file, err := os.OpenFile(path+".new", os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	err = write(file)
	if err == nil {
		size, err = file.Seek(0, io.SeekCurrent)
	}
	if err := errors.Join(err, file.Sync(), file.Close()); err != nil {
		return 0, errors.Join(err, os.Remove(file.Name()))
	}
	return size, os.Rename(file.Name(), path)
}

func restoreCommand() *cobra.Command {
	var s settings
	command := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make a store of a snapshot, on one host, when the cluster has lost its own",
		Long: "Make a store of a snapshot that \"causeway backup\" wrote, when most of the hosts that hold the store\n" +
			"are lost. Run it on one host that held the store, while causeway does not run there. The host holds the\n" +
			"store alone then; the others find it, and hold it too after a while. Containers keep running: each host\n" +
			"puts back what it has written since the backup.",
		Args: cobra.ExactArgs(1),
		RunE: func(command *cobra.Command, args []string) error {
			if err := readEnv(command.Flags()); err != nil {
				return err
			}
			if err := restoreStore(command.Context(), s, args[0]); err != nil {
				return err
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "%s is the store in %s now; start causeway\n", args[0], s.dataDir)
			return err
		},
	}
	s.registerData(command.Flags())
	documentEnv(command.Flags())
	return command
}

func restoreStore(ctx context.Context, s settings, file string) error {
	folder, err := takeDataDir(s.dataDir)
	if err != nil {
		return err
	}
	defer folder.Close()
	if !cluster.IsClosed(s.dataDir) {
		_, err = kvstore.Restore(ctx, kvstore.Restoring{Snapshot: file, DataDir: s.dataDir, Prefix: s.storePrefix})
		return err
	}
	self, err := readIdentity(s)
	if err != nil {
		return err
	}
	return cluster.Restore(ctx, cluster.Config{DataDir: s.dataDir, Host: self.Host, Port: s.clusterPort}, file, s.storePrefix)
}
