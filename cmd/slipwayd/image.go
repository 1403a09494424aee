package main

import (
	"crypto/x509"
	"fmt"
	"os"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/e2e/images"
)

func imageCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{Use: "image", Short: "Base images of the rack's registry"}
	push := &cobra.Command{
		Use: "push busybox|golang…", Short: "Make base images from this machine and push them as library/<name>:latest",
		Long: `Make base images from what is installed on this machine and push them into the rack's own
registry, where FROM finds them before any other registry: a rack without a way to one can build.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, names []string) error {
			p, err := locate(dir)
			if err != nil {
				return err
			}
			for _, name := range names {
				if err := pushImage(cmd, p, name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	push.Flags().StringVar(&dir, "dir", ".slipway", "data directory of the rack")
	cmd.AddCommand(push)
	return cmd
}

func pushImage(cmd *cobra.Command, p paths, name string) error {
	var img v1.Image
	var err error
	switch name {
	case "busybox":
		img, err = images.Busybox()
	case "golang":
		img, err = images.Golang(p.data("cache"))
	default:
		err = api.Errorf(api.CodeInvalid, "image %q is not one of busybox, golang", name)
	}
	if err != nil {
		return err
	}
	ready, err := readReady(p)
	if err != nil {
		return err
	}
	ca, err := os.ReadFile(ready.CA)
	if err != nil {
		return fmt.Errorf("read the rack's CA: %w", err)
	}
	token, err := os.ReadFile(ready.Token)
	if err != nil {
		return fmt.Errorf("read the admin's token: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	target := images.Target{Addr: ready.Registry, CA: pool, ServerName: api.RackHost, User: "admin", Password: string(token)}
	digest, err := images.Push(cmd.Context(), target, "library/"+name+":latest", img)
	if err != nil {
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "library/%s:latest %s\n", name, digest)
	return nil
}
