package client

import (
	"context"
	"time"

	"slipway/api"
	"slipway/api/pb"
)

// ProcessFilter selects processes; zero fields select all.
type ProcessFilter struct {
	App     api.AppName
	Service api.ServiceName
	Release api.ReleaseID
	// All includes those that have ended.
	All bool
}

// Processes lists processes.
func (c *Client) Processes(ctx context.Context, f ProcessFilter) ([]api.ProcessInfo, error) {
	return many[api.ProcessInfo](c.rpc.ListProcesses(ctx, &pb.ListProcessesRequest{
		App: string(f.App), Service: string(f.Service), Release: string(f.Release), All: f.All,
	}))
}

// Process describes one process, live or ended.
func (c *Client) Process(ctx context.Context, app api.AppName, id api.ProcessID) (api.ProcessInfo, error) {
	return one[api.ProcessInfo](c.rpc.GetProcess(ctx, &pb.ObjectRequest{App: string(app), Id: string(id)}))
}

// StopProcess takes a process out of service; a copy of a service is replaced.
func (c *Client) StopProcess(ctx context.Context, app api.AppName, id api.ProcessID) error {
	return done(c.rpc.StopProcess(ctx, &pb.ObjectRequest{App: string(app), Id: string(id), RequestId: requestID()}))
}

// Run is a one-off.
type Run struct {
	Service api.ServiceName
	Command []string // empty keeps the image's
	Release string   // "" is the active one
	// Detach keeps it alive without anybody attached.
	Detach bool
	// TTY gives it a terminal of the given size.
	TTY  bool
	Size Size
	// Timeout ends it; 0 is an hour.
	Timeout time.Duration
}

// Run creates a one-off; Attach connects to it.
func (c *Client) Run(ctx context.Context, app api.AppName, r Run) (api.ProcessInfo, error) {
	return one[api.ProcessInfo](c.rpc.Run(ctx, &pb.RunRequest{
		App: string(app), Service: string(r.Service), Command: r.Command, Release: r.Release, Detach: r.Detach,
		Tty: r.TTY, Rows: uint32(r.Size.Rows), Cols: uint32(r.Size.Cols),
		TimeoutSeconds: int64((r.Timeout + time.Second - 1) / time.Second), RequestId: requestID(),
	}))
}
