package network

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// rules is the whole table of the node as nft reads it: it replaces what was there in one
// transaction. Processes reach one another, on whatever node, and the outside, which sees the
// node's address; of a node itself they reach the DNS of their own only, and ports that lead to
// processes. Those answer to an address that is not theirs when the answer could not find its way
// otherwise: to a process of the same bridge, and to the node's loopback.
//
// Nothing claims an address that is not its own: the bridge sends what is from the node's subnet,
// and nothing else does. The gateway answers to whom the node knows.
func (n *Network) rules() string {
	sets, input, forward, nat := n.peerRules()
	words := strings.NewReplacer(
		"TABLE", n.table, "BRIDGE", strconv.Quote(n.bridge), "OVERLAY", strconv.Quote(n.overlay), "SUBNET", n.cfg.Subnet.String(),
		"GATEWAY", n.Gateway().String(), "CLUSTER", n.Cluster().String(), "UDPPORT", strconv.Itoa(int(n.cfg.Port)), "VNI", strconv.Itoa(vni(n.cfg.Rack)),
		"MARK", strconv.Itoa(mark),
	)
	return words.Replace(`table ip TABLE
delete table ip TABLE
table ip TABLE {
` + n.portRules() + sets + `	chain sources {
		type filter hook prerouting priority raw; policy accept;
		iifname BRIDGE ip saddr != SUBNET drop
		iifname BRIDGE ip saddr GATEWAY drop
		iifname != { "lo", BRIDGE } ip saddr SUBNET drop
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname BRIDGE ct state established,related accept
		iifname BRIDGE meta l4proto { tcp, udp } th dport 53 ip daddr GATEWAY accept
		iifname BRIDGE icmp type echo-request accept
		iifname BRIDGE drop
		iifname "lo" accept
` + input + `		ip daddr GATEWAY ct state established,related accept
		ip daddr GATEWAY drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state established,related accept
` + forward + `		iifname BRIDGE accept
		oifname BRIDGE ct status dnat accept
		oifname BRIDGE iifname != BRIDGE drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
` + nat + `		ip saddr SUBNET ip daddr != CLUSTER masquerade
		ip saddr SUBNET ip daddr SUBNET ct status dnat masquerade
		ip saddr 127.0.0.0/8 oifname BRIDGE masquerade
	}
}
`)
}

// peerRules are what a rack of several nodes adds: sets, and lines of the chains. What comes from
// another node is for processes; what comes over the overlay comes from a peer. What processes send
// to the host of a peer keeps its source, so that the peer can tell it from what this node sends.
func (n *Network) peerRules() (sets, input, forward, nat string) {
	if !n.cfg.Cluster.IsValid() {
		return "", "", "", ""
	}
	var hosts, subnets []string
	for _, p := range n.peers {
		hosts, subnets = append(hosts, p.Addr.String()), append(subnets, p.Subnet.String())
	}
	elements := func(all []string) string {
		if len(all) == 0 {
			return ""
		}
		return "elements = { " + strings.Join(all, ", ") + " }"
	}
	sets = `	set hosts {
		type ipv4_addr
		` + elements(hosts) + `
	}
	set subnets {
		type ipv4_addr
		flags interval
		` + elements(subnets) + `
	}
	chain marks {
		type filter hook prerouting priority mangle; policy accept;
		iifname BRIDGE ip daddr @hosts ct direction original meta mark set meta mark or MARK
	}
`
	// A packet of the overlay is told by its number, 12 bytes behind the head of UDP.
	input = `		udp dport UDPPORT @th,96,24 VNI ip saddr != @hosts drop
		iifname OVERLAY ct state established,related accept
		iifname OVERLAY drop
		ip saddr CLUSTER ct state established,related accept
		ip saddr CLUSTER drop
`
	forward = `		iifname BRIDGE oifname OVERLAY ip daddr CLUSTER accept
		iifname BRIDGE oifname OVERLAY ip daddr @hosts accept
		oifname OVERLAY drop
		iifname OVERLAY oifname BRIDGE ip saddr @subnets accept
		iifname OVERLAY drop
`
	if n.cfg.Direct == DirectAuto {
		forward += "		oifname BRIDGE ip saddr @subnets accept\n"
	}
	return sets, input, forward, "		ip saddr SUBNET ip daddr @hosts accept\n"
}

func (n *Network) applyRules(ctx context.Context) error {
	n.listed = ""
	_, err := nft(ctx, n.rules(), "-f", "-")
	return err
}

// repairRules writes the table again if it is gone, or not as it was when it was first looked at.
func (n *Network) repairRules(ctx context.Context) (repaired bool, err error) {
	now, gone := nft(ctx, "", "list", "table", "ip", n.table)
	if gone == nil && (n.listed == "" || n.listed == now) {
		n.listed = now
		return false, nil
	}
	return true, n.applyRules(ctx)
}

func (n *Network) dropRules(ctx context.Context) error {
	_, err := nft(ctx, fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", n.table), "-f", "-")
	return err
}

// nft runs the program of that name; a script on its standard input is one transaction.
func nft(ctx context.Context, script string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "nft", args...)
	cmd.Stdin = strings.NewReader(script)
	var out, wrong bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &wrong
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("nft %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(wrong.String()))
	}
	return out.String(), nil
}
