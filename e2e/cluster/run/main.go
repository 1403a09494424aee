// Command run starts a rack of three servers and three nodes on this machine, each in a host of its
// own, and stops it again: run up DIR BIN, run down DIR.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"slipway/api"
	"slipway/e2e/cluster"
	"slipway/e2e/hosts"
)

// startMax bounds the start of all parts.
const startMax = 3 * time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return errors.New("usage: run up DIR BIN | run down DIR")
	}
	dir, err := filepath.Abs(args[1])
	if err != nil {
		return err
	}
	if args[0] == "down" {
		rig, err := hosts.Open(dir)
		if api.CodeOf(err) == api.CodeNotFound {
			fmt.Println("no rack runs in", dir)
			return nil
		}
		if err != nil {
			return err
		}
		return rig.Close()
	}
	bin, err := filepath.Abs(args[2])
	if err != nil {
		return err
	}
	return up(dir, bin)
}

// up starts the rack and deploys examples/hello.
func up(dir, bin string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startMax)
	defer cancel()
	c, err := cluster.New(cluster.Config{Dir: dir, Bin: bin, Servers: 3, Nodes: 3})
	if err != nil {
		return err
	}
	fmt.Println("starting 3 servers and 3 nodes …")
	if err := c.Start(ctx); err != nil {
		return errors.Join(err, c.Close())
	}
	return c.WriteReady()
}
