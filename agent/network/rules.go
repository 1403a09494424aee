package network

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// rules is the whole table of the node as nft reads it: it replaces what was there in one
// transaction. Processes reach one another and the outside, which sees the node's address; of
// the node itself they reach DNS only, and the ports that lead to processes. Those answer to an
// address that is not theirs when the answer could not find its way otherwise: to a process of the
// same bridge, and to the node's loopback.
func (n *Network) rules() string {
	return fmt.Sprintf(`table ip %[1]s
delete table ip %[1]s
table ip %[1]s {
%[5]s	chain input {
		type filter hook input priority filter; policy accept;
		iifname %[2]q ct state established,related accept
		iifname %[2]q meta l4proto { tcp, udp } th dport 53 ip daddr %[4]s accept
		iifname %[2]q icmp type echo-request accept
		iifname %[2]q drop
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname %[2]q accept
		oifname %[2]q ct state established,related accept
		oifname %[2]q ct status dnat accept
		oifname %[2]q iifname != %[2]q drop
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr %[3]s ip daddr != %[3]s masquerade
		ip saddr %[3]s ip daddr %[3]s ct status dnat masquerade
		ip saddr 127.0.0.0/8 oifname %[2]q masquerade
	}
}
`, n.table, n.bridge, n.cfg.Subnet, n.Gateway(), n.portRules())
}

func (n *Network) applyRules(ctx context.Context) error { return nft(ctx, n.rules()) }

func (n *Network) dropRules(ctx context.Context) error {
	return nft(ctx, fmt.Sprintf("table ip %[1]s\ndelete table ip %[1]s\n", n.table))
}

// nft applies a script as one transaction.
func nft(ctx context.Context, script string) error {
	cmd := exec.CommandContext(ctx, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(script)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apply nft rules: %w: %s", err, strings.TrimSpace(out.String()))
	}
	return nil
}
