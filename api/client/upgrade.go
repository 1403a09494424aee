package client

import (
	"context"

	"slipway/api"
	"slipway/api/pb"
)

// PlanUpgrade tells how far an upgrade of the rack is, and whether the next machine may be upgraded
// now.
func (c *Client) PlanUpgrade(ctx context.Context) (api.Upgrade, error) {
	return one[api.Upgrade](c.rpc.PlanUpgrade(ctx, &pb.PlanUpgradeRequest{}))
}

// FinishUpgrade lets the rack use all that the version of its servers has. There is no way back.
func (c *Client) FinishUpgrade(ctx context.Context) (api.Upgrade, error) {
	return one[api.Upgrade](c.rpc.FinishUpgrade(ctx, &pb.FinishUpgradeRequest{RequestId: requestID()}))
}
