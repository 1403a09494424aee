package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Services lists the services of an app.
func (c *Client) Services(ctx context.Context, app api.AppName) ([]api.ServiceInfo, error) {
	return many[api.ServiceInfo](c.rpc.ListServices(ctx, &pb.AppRequest{App: string(app)}))
}

// Scale says what to change of a service's scale; nil keeps a part.
type Scale struct {
	Count  *int
	CPU    *api.MilliCPU
	Memory *api.Bytes
	// Reset returns to the manifest.
	Reset bool
}

// Scale changes the scale of a service until it is reset.
func (c *Client) Scale(ctx context.Context, app api.AppName, service api.ServiceName, s Scale) (api.ServiceInfo, error) {
	r := &pb.ScaleRequest{App: string(app), Service: string(service), Reset_: s.Reset, RequestId: requestID()}
	if s.Count != nil {
		// A count beyond the range is for the rack to refuse, not to wrap around here.
		count := int32(min(max(*s.Count, -1), 1<<30))
		r.Count = &count
	}
	if s.CPU != nil {
		cpu := int64(*s.CPU)
		r.Cpu = &cpu
	}
	if s.Memory != nil {
		memory := int64(*s.Memory)
		r.Memory = &memory
	}
	return one[api.ServiceInfo](c.rpc.Scale(ctx, r))
}

// Restart replaces the processes of a service; "" restarts all services of the app.
func (c *Client) Restart(ctx context.Context, app api.AppName, service api.ServiceName) error {
	return done(c.rpc.Restart(ctx, &pb.ServiceRequest{App: string(app), Service: string(service), RequestId: requestID()}))
}
