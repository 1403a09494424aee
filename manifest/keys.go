package manifest

import "strings"

// The tables of this file and keys_service.go are the manifest's grammar. An attribute that is
// not marked belongs to both Convox dialects and acts.

// The largest values that make sense, so that no sum of them overflows.
const (
	dayMax    = 86_400           // seconds
	countMax  = 10_000           // copies of a service
	memoryMax = 16 * 1024 * 1024 // MB: 16 TiB
	cpuMax    = 1024 * 1024      // 1024 cores
	gpuMax    = 64               // per copy
	deviceMax = 64               // of one kind, per copy
)

func topLevel() rule {
	return tableOf(keys{
		"environment": environment("environment"),
		"params":      namesOf(text()).idle(),
		"resources":   namesOf(resource()),
		"services":    namesOf(service()),
		"timers":      namesOf(timer()),
		"balancers":   namesOf(balancer()).v3(),
		"labels":      namesOf(text()).v3().idle(),
		"configs": listOf(tableOf(keys{
			"id":    text(),
			"name":  text(),
			"value": text(),
		})).v3().idle(),
		"appSettings": tableOf(keys{
			"awsLogs": tableOf(keys{
				"cwRetention":      whole(1, 3653),
				"disableRetention": flag(),
			}).idle(),
		}).v3(),
		"budget": budget().v3().idle(),
	})
}

// environment is a list of declarations; the reader of entries checks what is in them. Lists
// within the list come from anchors and count as part of it.
func environment(name string) rule {
	entry := text().encrypted()
	entry.text = false
	some := entry.or(listOf(entry))
	some.what = `KEY, KEY=default or "*"`
	all := listOf(some).called(name)
	all.what = `a list of KEY, KEY=default or "*"`
	return all
}

func resource() rule {
	return tableOf(keys{
		"type":    text(),
		"options": namesOf(text()).idle(),
		"image":   text().v3().idle(),
		"tags":    namesOf(text()).v2().idle(),
	})
}

func timer() rule {
	return tableOf(keys{
		"command":       commandLine(),
		"schedule":      text(),
		"service":       text(),
		"policies":      listOf(text()).v2(),
		"annotations":   annotations().v3(),
		"concurrency":   matching("one of Allow, Forbid, Replace", concurrency).v3(),
		"parallelCount": whole(0, 1000).v3(),
		"timezone":      matching("a time zone such as Europe/Paris", timezone).ours(),
	}).idle()
}

func balancer() rule {
	return tableOf(keys{
		"service": text(),
		"ports": namesOf(whole(1, 65535).or(tableOf(keys{
			"protocol": matching("TCP or UDP", protocol),
			"port":     whole(1, 65535),
		}))),
		"whitelist":   text().or(listOf(text())),
		"annotations": annotations(),
	}).idle()
}

func budget() rule {
	return tableOf(keys{
		"monthlyCapUsd":         matching("a number above 0", positive),
		"alertThresholdPercent": whole(1, 100),
		"atCapAction":           oneOf("alert-only", "block-new-deploys", "auto-shutdown"),
		"atCapWebhookUrl":       matching("an https URL", webhook),
		"pricingAdjustment":     matching("a number above 0, at most 100", adjustment),
		"neverAutoShutdown":     listOf(text()),
		"shutdownOrder":         oneOf("largest-cost", "newest"),
		"notifyBeforeMinutes":   whole(5, 1440),
		"shutdownGracePeriod":   matching("a duration from 0 to 1h, such as 5m", gracePeriod),
		"recoveryMode":          oneOf("auto-on-reset", "manual"),
	})
}

// commandLine is a string or, beyond Convox v3, a list of words.
func commandLine() rule {
	return text().or(listOf(text().encrypted())).encrypted()
}

// annotations are `key=value` or maps in a list, or a map.
func annotations() rule {
	pair := matching("key=value", func(s string) bool { return strings.Contains(s, "=") })
	return listOf(pair.or(namesOf(text()))).or(namesOf(text()))
}
