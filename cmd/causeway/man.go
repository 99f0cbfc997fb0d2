package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manCommand writes the manual's pages; the package is made with it.
func manCommand() *cobra.Command {
	return &cobra.Command{
		Use: "man FOLDER", Short: "Write the pages of the manual", Args: cobra.ExactArgs(1), Hidden: true,
		RunE: func(command *cobra.Command, args []string) error {
			root := command.Root()
			root.DisableAutoGenTag = true // it has the date of today: the same source gives the same pages
			err := doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "causeway " + version(), Manual: "causeway"}, args[0])
			if err != nil {
				return fmt.Errorf("write the manual: %w", err)
			}
			return nil
		},
	}
}
