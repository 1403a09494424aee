package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"slipway/api"
	"slipway/api/pb"
)

// joinMax bounds one attempt to join, which for a server includes becoming part of the quorum.
const joinMax = 30 * time.Second

// Joining is what a machine says of itself to become part of a rack.
type Joining struct {
	Servers []string // addresses, tried in order
	Token   string
	// Request is what is asked for; Token and Request of it are filled in.
	Request *pb.JoinRequest
	// Taken is told the answer before the certificate is kept; may be nil. With an error of it the
	// machine has not joined.
	Taken func(*pb.JoinReply) error
	// Dial opens connections; nil dials TCP.
	Dial func(ctx context.Context, addr string) (net.Conn, error)
}

// Join asks the servers for a certificate, keeps it in dir and returns it with the answer. It
// asks each server once; the error names what each one said.
func Join(ctx context.Context, dir string, j Joining) (*Identity, *pb.JoinReply, error) {
	secret, fingerprint, err := ParseJoinToken(j.Token)
	if err != nil {
		return nil, nil, err
	}
	key, request, err := NewRequest()
	if err != nil {
		return nil, nil, err
	}
	j.Request.Token, j.Request.Request = secret, request
	failed := api.Errorf(api.CodeInvalid, "no address of a server is given; use --join HOST:PORT")
	for _, addr := range j.Servers {
		reply, err := j.ask(ctx, addr, fingerprint)
		if err == nil && j.Taken != nil {
			err = j.Taken(reply)
		}
		if err == nil {
			id, err := Keep(dir, key, reply.GetCertificate().GetChain(), reply.GetCertificate().GetTrust())
			return id, reply, err
		}
		failed = api.Errorf(api.CodeOf(err), "join through %s: %w", addr, err)
		if ctx.Err() != nil {
			break
		}
	}
	return nil, nil, failed
}

// ask asks one server.
func (j *Joining) ask(ctx context.Context, addr, fingerprint string) (*pb.JoinReply, error) {
	ctx, cancel := context.WithTimeout(ctx, joinMax)
	defer cancel()
	refused := make(chan error, 1)
	conf := pinned(fingerprint)
	check := conf.VerifyConnection
	conf.VerifyConnection = keepFirst(check, refused)
	options := []grpc.DialOption{grpc.WithTransportCredentials(credentials.NewTLS(conf)), grpc.WithNoProxy()}
	if j.Dial != nil {
		options = append(options, grpc.WithContextDialer(j.Dial))
	}
	conn, err := grpc.NewClient("passthrough:///"+addr, options...)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	defer conn.Close()
	reply, err := pb.NewMachinesClient(conn).Join(ctx, j.Request)
	if err == nil {
		return reply, nil
	}
	select {
	case why := <-refused: // says more than "connection error"
		return nil, why
	default:
		return nil, pb.FromError(err)
	}
}

// Renew replaces the certificate by a new one, with a new key, over a connection to a server that
// the old one proved itself on.
func (i *Identity) Renew(ctx context.Context, conn grpc.ClientConnInterface, hosts []string) error {
	key, request, err := NewRequest()
	if err != nil {
		return err
	}
	reply, err := pb.NewMachinesClient(conn).Renew(ctx, &pb.RenewRequest{Request: request, Host: hosts})
	if err != nil {
		return fmt.Errorf("renew the machine's certificate: %w", pb.FromError(err))
	}
	return i.Replace(key, reply.GetChain(), reply.GetTrust())
}

// renewRetry is the wait after a renewal that failed, unless the certificate ends sooner.
const renewRetry = time.Minute

// KeepFresh renews the certificate whenever half of its life is over, until ctx ends. failed is
// told what went wrong.
func (i *Identity) KeepFresh(ctx context.Context, renew func(context.Context) error, failed func(error)) error {
	for {
		from, until := i.Life()
		wait := time.Until(from.Add(until.Sub(from) / 2))
		if wait > 0 {
			timer := time.NewTimer(wait)
			select {
			case <-ctx.Done():
				timer.Stop()
				return nil
			case <-timer.C:
			}
		}
		err := renew(ctx)
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		failed(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(min(renewRetry, max(time.Second, time.Until(until)/4))):
		}
	}
}

const (
	// reportWait is how long the servers may take to answer a report, while nothing changes.
	reportWait = 5 * time.Minute
	// reportRetry and reportRetryMax are the waits after a report that failed, growing.
	reportRetry    = time.Second
	reportRetryMax = 15 * time.Second
)

// Follow tells the servers what the machine holds, over a connection that it proves itself on, and
// renews the certificate as soon as they want something else: the rack is replacing its authority.
// It ends with ctx. failed is told what went wrong.
func (i *Identity) Follow(ctx context.Context, conn grpc.ClientConnInterface, renew func(context.Context) error, failed func(error)) error {
	retry := reportRetry
	for {
		issuer, trusts := i.Holds()
		reply, err := pb.NewMachinesClient(conn).Report(ctx, &pb.ReportRequest{Issuer: issuer, Trusts: trusts, WaitMs: reportWait.Milliseconds()})
		if err = pb.FromError(err); err == nil && (reply.Issuer != issuer || !slices.Equal(reply.Trusts, trusts)) {
			if err = renew(ctx); err == nil {
				if now, all := i.Holds(); now != reply.Issuer || !slices.Equal(all, reply.Trusts) {
					err = api.Errorf(api.CodeUnavailable, "the server that renews certificates does not know the rack's authority yet")
				}
			}
		}
		if ctx.Err() != nil {
			return nil
		}
		if err == nil {
			retry = reportRetry
			continue
		}
		failed(err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retry):
		}
		retry = min(2*retry, reportRetryMax)
	}
}

// keepFirst remembers the first refusal, which gRPC wraps beyond recognition.
func keepFirst[T any](check func(T) error, refused chan error) func(T) error {
	return func(s T) error {
		err := check(s)
		var known *api.Error
		if errors.As(err, &known) {
			select {
			case refused <- err:
			default:
			}
		}
		return err
	}
}
