// Package manifest holds Load: the text of a manifest and an environment become services,
// resources, timers and warnings.
//
// Load is pure. It reads no file, knows no clock and starts nothing; callers read the first
// of FileNames that exists. It may be imported by the CLI and by the server alike, so that
// `slipway validate` and a promote can never disagree. It imports api and a YAML parser.
//
// # Pipeline
//
//	text → tokens for ${NAME} → YAML nodes → our tree: limits, aliases, values of ${NAME}
//	     → one walk along the table of known keys: kinds, ranges, unknown keys, dialect
//	     → readers: defaults and typed values → rules between objects → Manifest
//
// The table in keys*.go is the one place that says which keys exist, what they may hold, which
// dialect knows them and whether they act yet. The readers assume what the walk has checked
// and read a wrong value as absent, so that nothing is reported twice and everything is
// reported at once.
//
// The limits in limits.go bound the cost of every text, so that a server can load what anybody
// sends. testdata/attributes.txt shows what each attribute means, docs/manifest.md tells it; a
// test asks both for every key of the table.
//
// # Dialects
//
// Both Convox dialects are accepted together. Where their defaults differ (sticky, init, the
// unit of cpu) those of v3 hold, unless the manifest uses attributes that only v2 knows and
// none that only v3 knows. Evidence names the attributes that led to the choice.
//
// # Differences from Convox, on purpose
//
//   - A service receives the variables that the manifest declares for it and no others, as in
//     v2. Convox v3 injects the whole environment into every service. "*" declares all.
//   - ${NAME} is replaced in values after the YAML is parsed, where Convox replaces it in the
//     text before. The result is the same for ordinary values. It differs where a value holds
//     YAML itself: quotes, " #", ": " or line breaks are kept as they are and can never become
//     structure; a key or a list of several items cannot come from one variable. Variables
//     named only in comments do not count.
//   - A command given as a string is split into words and run directly when it needs no shell,
//     and run by sh -c when it does.
//   - Scalars are text as written: `version: 9.10` is "9.10" and `image: y` is "y", where
//     YAML 1.1 makes them "9.1" and "true". A warning tells where the readings differ.
//   - Unknown keys are warned about, duplicate keys are errors.
//   - A number that is written holds, 0 too, where Convox reads 0 as "not written".
//   - A singleton has one copy. In Convox it only stops before it starts.
//   - internalRouter means internal until there is a router for internal names, so that nobody
//     gets in from outside.
//   - A volume whose source is a system directory is refused, except for the few that may be
//     mounted read-only.
package manifest
