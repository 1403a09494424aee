package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Explain says where copies of a service can go and why not elsewhere.
func (c *Client) Explain(ctx context.Context, app api.AppName, service api.ServiceName) (api.Explanation, error) {
	return one[api.Explanation](c.rpc.Explain(ctx, &pb.ServiceRequest{App: string(app), Service: string(service)}))
}

// WhyNot lists everything that keeps a copy of a service off a node, named by ID or name.
func (c *Client) WhyNot(ctx context.Context, app api.AppName, service api.ServiceName, node string) (api.WhyNot, error) {
	return one[api.WhyNot](c.rpc.WhyNot(ctx, &pb.WhyNotRequest{App: string(app), Service: string(service), Node: node}))
}

// NewNodes are nodes that are not there yet.
type NewNodes struct {
	Count    int
	Capacity api.Amount // without Disk, that of the smallest node
	Pool     api.PoolName
	Labels   map[string]string
}

// WhatIf is a change to ask about; one of its parts is set.
type WhatIf struct {
	RemoveNode, DrainNode string // ID or name
	AddNodes              *NewNodes
	Scale                 map[api.ServiceName]int
	Deploy                string // text of a manifest
}

// WhatIf says what would follow from a change; nothing is changed. The app may be "" for changes
// of nodes.
func (c *Client) WhatIf(ctx context.Context, app api.AppName, w WhatIf) (api.WhatIf, error) {
	r := &pb.WhatIfRequest{App: string(app)}
	switch {
	case w.RemoveNode != "":
		r.Change = &pb.WhatIfRequest_RemoveNode{RemoveNode: w.RemoveNode}
	case w.DrainNode != "":
		r.Change = &pb.WhatIfRequest_DrainNode{DrainNode: w.DrainNode}
	case w.AddNodes != nil:
		n := api.Node{Capacity: w.AddNodes.Capacity, Pool: w.AddNodes.Pool, Labels: w.AddNodes.Labels}
		count := int32(min(max(w.AddNodes.Count, -1), 1<<30)) // for the rack to refuse
		r.Change = &pb.WhatIfRequest_AddNodes{AddNodes: &pb.NewNodes{Count: count, Node: pb.Marshal(n)}}
	case w.Scale != nil:
		counts := map[string]int64{}
		for service, n := range w.Scale {
			counts[string(service)] = int64(n)
		}
		r.Change = &pb.WhatIfRequest_Scale{Scale: &pb.NewScale{Counts: counts}}
	default:
		r.Change = &pb.WhatIfRequest_Deploy{Deploy: w.Deploy}
	}
	return one[api.WhatIf](c.rpc.WhatIf(ctx, r))
}

// Capacity describes the room of every pool.
func (c *Client) Capacity(ctx context.Context) ([]api.Capacity, error) {
	return many[api.Capacity](c.rpc.Capacity(ctx, &pb.CapacityRequest{}))
}

// Pools lists the pools.
func (c *Client) Pools(ctx context.Context) ([]api.Pool, error) {
	return many[api.Pool](c.rpc.ListPools(ctx, &pb.ListPoolsRequest{}))
}

// PutPool says how a pool fills its nodes.
func (c *Client) PutPool(ctx context.Context, p api.Pool) (api.Pool, error) {
	return one[api.Pool](c.rpc.PutPool(ctx, &pb.PutPoolRequest{Pool: pb.Marshal(p), RequestId: requestID()}))
}
