package manifest

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// Config is a named text that services can mount as a file.
type Config struct {
	ID    string `json:"id"`
	Name  string `json:"name,omitempty"`
	Value string `json:"-"`
}

// Logs says how long the lines of the app are kept.
type Logs struct {
	RetentionDays    int  `json:"retention_days"`
	DisableRetention bool `json:"disable_retention,omitempty"`
}

// Budget bounds what an app may cost.
type Budget struct {
	MonthlyCapUSD         float64  `json:"monthly_cap_usd"`
	AlertThresholdPercent int      `json:"alert_threshold_percent"`
	AtCapAction           string   `json:"at_cap_action"`
	AtCapWebhookURL       string   `json:"at_cap_webhook_url,omitempty"`
	PricingAdjustment     float64  `json:"pricing_adjustment"`
	NeverAutoShutdown     []string `json:"never_auto_shutdown,omitempty"`
	ShutdownOrder         string   `json:"shutdown_order"`
	// NotifyBefore and ShutdownGrace are the warning before a shutdown and the time it takes.
	NotifyBefore  time.Duration `json:"notify_before"`
	ShutdownGrace time.Duration `json:"shutdown_grace"`
	RecoveryMode  string        `json:"recovery_mode"`

	node *node
}

func (l *loader) configs(n *node) []Config {
	var configs []Config
	seen := map[string]bool{}
	for _, item := range n.elements() {
		c := Config{ID: item.get("id").string(""), Name: item.get("name").string(""), Value: item.get("value").string("")}
		switch {
		case c.ID == "":
			l.problem(item, "%s has no id", item.path).hint("add id:, the name that configMounts use")
		case seen[c.ID]:
			l.problem(item, "%s: the id %s is used twice", item.path, quote(source(item.get("id"))))
		}
		seen[c.ID] = true
		configs = append(configs, c)
	}
	return configs
}

func (l *loader) appSettings(n *node) *Logs {
	logs := n.get("awsLogs")
	if logs == nil {
		return nil
	}
	return &Logs{
		RetentionDays:    logs.get("cwRetention").number(7),
		DisableRetention: logs.get("disableRetention").flag(false),
	}
}

func (l *loader) budget(n *node) *Budget {
	if !n.is(table) {
		return nil
	}
	b := &Budget{
		AlertThresholdPercent: n.get("alertThresholdPercent").number(80),
		AtCapAction:           n.get("atCapAction").string("alert-only"),
		AtCapWebhookURL:       n.get("atCapWebhookUrl").string(""),
		PricingAdjustment:     1,
		NeverAutoShutdown:     n.get("neverAutoShutdown").strings(),
		ShutdownOrder:         n.get("shutdownOrder").string("largest-cost"),
		NotifyBefore:          time.Duration(n.get("notifyBeforeMinutes").number(30)) * time.Minute,
		ShutdownGrace:         5 * time.Minute,
		RecoveryMode:          n.get("recoveryMode").string("auto-on-reset"),
		node:                  n,
	}
	if v, err := strconv.ParseFloat(n.get("monthlyCapUsd").string(""), 64); err == nil {
		b.MonthlyCapUSD = v
	}
	if v, err := strconv.ParseFloat(n.get("pricingAdjustment").string(""), 64); err == nil {
		b.PricingAdjustment = v
	}
	if d, err := time.ParseDuration(n.get("shutdownGracePeriod").string("")); err == nil {
		b.ShutdownGrace = d
	}
	if n.get("monthlyCapUsd") == nil && b.AtCapAction != autoShutdown {
		l.warn(n, "budget has no monthlyCapUsd, and so no effect")
	}
	return b
}

// autoShutdown stops the services of an app that costs too much.
const autoShutdown = "auto-shutdown"

// checkShutdown applies the rules of a budget that stops services.
func (l *loader) checkShutdown(m *Manifest, n *node) {
	at := n.get("atCapAction")
	if n.get("monthlyCapUsd") == nil {
		l.problem(at, "budget.atCapAction auto-shutdown needs monthlyCapUsd").hint("add it, with the most that a month may cost")
	}
	if n.get("atCapWebhookUrl") == nil {
		l.problem(at, "budget.atCapAction auto-shutdown needs atCapWebhookUrl").hint("add it: nobody would be told that services are stopped")
	}
	spared := func(s Service) bool { return slices.Contains(m.Budget.NeverAutoShutdown, string(s.Spec.Name)) }
	if !slices.ContainsFunc(m.Services, func(s Service) bool { return !spared(s) }) {
		l.problem(at, "budget.atCapAction auto-shutdown has no service that it may stop").
			hint("remove one from neverAutoShutdown, or use block-new-deploys")
	}
}

// checkBudget applies the rules between the budget and the services.
func (l *loader) checkBudget(m *Manifest) {
	if m.Budget == nil {
		return
	}
	n := m.Budget.node
	for _, item := range n.get("neverAutoShutdown").elements() {
		if !m.has(item.string("")) {
			l.warn(item, "budget.neverAutoShutdown names a service that does not exist: %s", short(item.source)).hint(m.nearService(item))
		}
	}
	if m.Budget.AtCapAction == autoShutdown {
		l.checkShutdown(m, n)
		return
	}
	for _, key := range strings.Fields("neverAutoShutdown shutdownOrder notifyBeforeMinutes shutdownGracePeriod recoveryMode") {
		if n.get(key) != nil {
			l.warn(n.get(key), "budget.%s has an effect only with atCapAction: auto-shutdown", key)
		}
	}
}
