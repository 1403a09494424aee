package auth

import (
	"maps"

	"slipway/api/pb"
)

// Right is what a method asks of its caller.
type Right int

// The rights.
const (
	rightNone Right = iota
	// RightRead sees objects, but no value of an environment.
	RightRead
	// RightDeploy changes an app, reads its environment and enters its processes.
	RightDeploy
	// RightAdmin changes the rack, and removes apps.
	RightAdmin
	// RightNode speaks for a node.
	RightNode
	// RightMachine is a machine of the rack, whatever its role.
	RightMachine
	// RightAnyone is everybody, token or not. The method checks for itself whom it serves.
	RightAnyone
)

// ofMachines reports whether the right is proved by a machine's certificate, and not by a token.
func (r Right) ofMachines() bool { return r == RightNode || r == RightMachine }

// String returns the word for r.
func (r Right) String() string {
	names := [...]string{"nothing", "read", "deploy", "administer", "speak for a node", "be a machine of the rack", "call"}
	if r < 0 || int(r) >= len(names) {
		return "unknown"
	}
	return names[r]
}

// rule is what one method asks for.
type rule struct {
	right Right
	// allApps permits an empty app: the answer covers the apps that the caller may see.
	allApps bool
	// more returns a right that a particular request needs beside; nil for none.
	more func(request any) Right
}

const control, agents, machines = "/slipway.v1.Control/", "/slipway.v1.Agents/", "/slipway.v1.Machines/"

// rules returns the one table of who may call what. A method that is not in it is refused.
func rules() map[string]rule {
	read, deploy, admin := rule{right: RightRead}, rule{right: RightDeploy}, rule{right: RightAdmin}
	node := rule{right: RightNode}
	table := map[string]rule{
		control + "GetRack":   read,
		control + "ListNodes": read,
		control + "Events":    {right: RightRead, allApps: true},

		control + "ListApps":         read,
		control + "GetApp":           read,
		control + "CreateApp":        deploy,
		control + "DeleteApp":        admin,
		control + "LockApp":          admin,
		control + "CancelDeployment": deploy,

		control + "HasSource":    deploy,
		control + "UploadSource": deploy,
		control + "CreateBuild":  deploy,
		control + "ExportBuild":  read,
		control + "ImportBuild":  deploy,
		control + "ListBuilds":   read,
		control + "GetBuild":     read,
		control + "WatchBuild":   read,

		control + "ListReleases": read,
		control + "GetRelease":   read,
		control + "DiffReleases": {right: RightRead, more: revealing},
		control + "GetEnv":       deploy,
		control + "SetEnv":       deploy,
		control + "Promote":      deploy,
		control + "Rollback":     deploy,

		control + "ListDeployments": read,
		control + "GetDeployment":   read,
		control + "WatchDeployment": read,

		control + "ListServices": read,
		control + "Scale":        deploy,
		control + "Restart":      deploy,

		control + "ListProcesses": {right: RightRead, allApps: true},
		control + "GetProcess":    read,
		control + "StopProcess":   deploy,
		control + "Run":           deploy,
		control + "Session":       {right: RightRead, more: entering},

		control + "GetWhy":   read,
		control + "Explain":  read,
		control + "WhyNot":   read,
		control + "WhatIf":   {right: RightRead, allApps: true, more: supposing},
		control + "Capacity": read,

		agents + "Register": node,
		agents + "Attach":   node,
		agents + "Tunnel":   node,

		agents + "IssueCertificate": node,
		agents + "FetchSource":      node,

		machines + "Join":   {right: RightAnyone}, // with a join token, which Join checks
		machines + "Renew":  {right: RightMachine},
		machines + "Report": {right: RightMachine},
	}
	maps.Copy(table, machineRules())
	return table
}

// machineRules are those of the methods about machines and about who may use the rack.
func machineRules() map[string]rule {
	read, admin := rule{right: RightRead}, rule{right: RightAdmin}
	return map[string]rule{
		control + "GetNode":    read,
		control + "PlanDrain":  read,
		control + "UpdateNode": admin,
		control + "RemoveNode": admin,
		control + "ListPools":  read,
		control + "PutPool":    admin,

		control + "ListServers":   read,
		control + "RemoveServer":  admin,
		control + "PlanUpgrade":   read,
		control + "FinishUpgrade": admin,
		control + "Backup":        admin,

		control + "ListAuthorities": read,
		control + "RotateAuthority": admin,

		control + "ListRegistries": read,
		control + "PutRegistry":    admin,
		control + "RemoveRegistry": admin,

		control + "ListTokens":      admin,
		control + "CreateToken":     admin,
		control + "DeleteToken":     admin,
		control + "RotateJoinToken": admin,
	}
}

// revealing asks for more when values of an environment are to be shown.
func revealing(request any) Right {
	if r, ok := request.(*pb.DiffReleasesRequest); ok && !r.GetReveal() {
		return RightRead
	}
	return RightDeploy
}

// supposing asks for more when a manifest is read with the environment of its app, whose values
// the answer may show.
func supposing(request any) Right {
	if r, ok := request.(*pb.WhatIfRequest); ok && r.GetDeploy() == "" {
		return RightRead
	}
	return RightDeploy
}

// entering asks for more when a session does more than read logs.
func entering(request any) Right {
	if f, ok := request.(*pb.Frame); ok && f.GetOpen().GetKind() == "logs" {
		return RightRead
	}
	return RightDeploy
}
