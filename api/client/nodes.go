package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// Nodes lists the nodes of the rack.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	return many[api.Node](c.rpc.ListNodes(ctx, &pb.ListNodesRequest{}))
}

// Node describes a node and what it runs, of the apps that the token reaches. Here and below, a
// node is named by its ID, or by its name if no other node has it.
func (c *Client) Node(ctx context.Context, node string) (api.NodeInfo, error) {
	return one[api.NodeInfo](c.rpc.GetNode(ctx, &pb.NodeRequest{Node: node}))
}

// PlanDrain says what a drain of a node would do to each of its processes. Nothing is changed.
func (c *Client) PlanDrain(ctx context.Context, node string) (api.DrainPlan, error) {
	return one[api.DrainPlan](c.rpc.PlanDrain(ctx, &pb.NodeRequest{Node: node}))
}

// NodeChange says what to change of a node; nil and empty parts keep theirs.
type NodeChange struct {
	Cordoned, Draining *bool
	Pool               *api.PoolName
	// Label sets labels, Unlabel removes some.
	Label   map[string]string
	Unlabel []string
}

// UpdateNode changes what operators own of a node.
func (c *Client) UpdateNode(ctx context.Context, node string, ch NodeChange) (api.Node, error) {
	r := &pb.UpdateNodeRequest{
		Node: node, Cordoned: ch.Cordoned, Draining: ch.Draining, Labels: ch.Label, Unlabel: ch.Unlabel, RequestId: requestID(),
	}
	if ch.Pool != nil {
		pool := string(*ch.Pool)
		r.Pool = &pool
	}
	return one[api.Node](c.rpc.UpdateNode(ctx, r))
}

// RemoveNode forgets a node that is down, or that nothing runs on. Its agent is not let in again.
func (c *Client) RemoveNode(ctx context.Context, node string) error {
	return done(c.rpc.RemoveNode(ctx, &pb.NodeRequest{Node: node, RequestId: requestID()}))
}
