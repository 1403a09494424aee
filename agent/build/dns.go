package build

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	dnsTimeout    = 5 * time.Second
	dnsMessageMax = 4096
)

// serveDNS passes name queries on to the machine's own servers, which may be on its loopback,
// where steps cannot reach them.
func (r *relay) serveDNS(ctx context.Context, c net.PacketConn) error {
	var group errgroup.Group
	group.SetLimit(connectionsMax)
	defer group.Wait() //nolint:errcheck // queries fail on their own
	for {
		query := make([]byte, dnsMessageMax)
		n, from, err := c.ReadFrom(query)
		if err != nil {
			return err
		}
		group.Go(func() error {
			answer, err := r.ask(ctx, query[:n])
			if err != nil {
				return err // the client asks again
			}
			_, err = c.WriteTo(answer, from)
			return err
		})
	}
}

// ask tries the servers in turn.
func (r *relay) ask(ctx context.Context, query []byte) ([]byte, error) {
	err := errors.New("the machine has no name server")
	for _, server := range r.servers {
		var answer []byte
		if answer, err = r.askOne(ctx, server, query); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func (r *relay) askOne(ctx context.Context, server string, query []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	conn, err := r.host.dial(ctx, "udp", server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return nil, err
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	answer := make([]byte, dnsMessageMax)
	n, err := conn.Read(answer)
	return answer[:n], err
}
