package manifest

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"slipway/api"
)

// The checks of scalars. Those that say why never repeat the text, which may be a value of the
// environment.

// schemes are those of a port.
var schemes = []string{"http", "https", "grpc", "secure-grpc"}

var (
	wordRule    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	capRule     = regexp.MustCompile(`^(CAP_)?[A-Z][A-Z_]*$`)
	zoneRule    = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*$`)
	percentRule = regexp.MustCompile(`^-?[0-9]{1,9}$`)
	rangeRule   = regexp.MustCompile(`^([0-9]{1,9})(?:-([0-9]{1,9}))?$`)
	sizeRule    = regexp.MustCompile(`^([0-9]{1,12})(Ki|Mi|Gi|Ti|k|K|M|G|T)?$`)
	// imageRule follows distribution's reference grammar: host, path, tag, digest.
	imageRule = regexp.MustCompile(`^([A-Za-z0-9.-]+(:[0-9]{1,5})?/)?[a-z0-9]+((\.|_|__|-+|/)[a-z0-9]+)*` +
		`(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$`)
)

func anyScalar(*node) string { return "" }

func anyWhole(n *node) string {
	if percentRule.MatchString(n.text) {
		return ""
	}
	return "must be a whole number" + got(n)
}

// below accepts a relative path that stays below where it starts.
func below(s string) (why string, ok bool) {
	switch {
	case strings.HasPrefix(s, "/"):
		return "it is absolute", false
	case slices.Contains(strings.Split(s, "/"), ".."):
		return "it leads out with ..", false
	}
	return "", s != "" && !hasControl(s) && len(s) < 4096
}

func imageRef(s string) (why string, ok bool) {
	if strings.HasPrefix(s, api.RackHost) {
		return "it is in the rack's own registry, use build or the image's origin", false
	}
	return "", imageRule.MatchString(s) && len(s) < 512
}

// urlPath accepts a path and query, not a full URL, and nothing that could end a request line.
func urlPath(s string) (why string, ok bool) {
	switch {
	case strings.Contains(s, "://"):
		return "it is a full URL, write only its path", false
	case !strings.HasPrefix(s, "/") || strings.HasPrefix(s, "//"):
		return "it must begin with one /", false
	case hasControl(s) || strings.Contains(s, " "):
		return "it contains a space or a control character", false
	}
	_, err := url.ParseRequestURI(s)
	return "", err == nil && len(s) < 2048
}

func stage(s string) bool      { return wordRule.MatchString(s) }
func poolName(s string) bool   { return api.CheckName("pool", s) == nil }
func capability(s string) bool { return capRule.MatchString(s) }
func timezone(s string) bool   { return zoneRule.MatchString(s) }
func number(s string) bool     { return fraction.MatchString(s) || percentRule.MatchString(s) }
func protocol(s string) bool   { return strings.EqualFold(s, "tcp") || strings.EqualFold(s, "udp") }

func portNumber(s string) bool {
	_, ok := parsePort(s)
	return ok
}

func concurrency(s string) bool {
	return slices.Contains([]string{"allow", "forbid", "replace"}, strings.ToLower(s))
}

func countRange(s string) bool {
	_, _, ok := parseRange(s)
	return ok
}

func sizeText(s string) bool {
	_, ok := parseSize(s)
	return ok
}

// shareSize accepts what Azure makes a premium file share of.
func shareSize(s string) bool {
	size, ok := parseSize(s)
	return ok && size >= 100*api.GiB
}

func webhook(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Scheme == "https" && u.Host != "" && u.User == nil
}

func adjustment(s string) bool {
	v, err := strconv.ParseFloat(s, 64)
	return err == nil && v > 0 && v <= 100
}

func positive(s string) bool {
	v, err := strconv.ParseFloat(s, 64)
	return err == nil && v > 0 && v <= 1e12
}

// schemePort accepts 9000 and https:9000.
func schemePort(s string) bool {
	if scheme, number, ok := strings.Cut(s, ":"); ok {
		return slices.Contains(schemes, scheme) && portNumber(number)
	}
	return portNumber(s)
}

func httpURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func gracePeriod(s string) bool {
	d, err := time.ParseDuration(s)
	return err == nil && d >= 0 && d <= time.Hour
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x85 || r == 0x2028 || r == 0x2029 })
}

// parsePort reads a port number from 1 to 65535.
func parsePort(s string) (int, bool) {
	v, err := strconv.ParseUint(s, 10, 16)
	return int(v), err == nil && v > 0 && s[0] != '0'
}

// parseRange reads "3" or "1-5".
func parseRange(s string) (low, high int, ok bool) {
	m := rangeRule.FindStringSubmatch(s)
	if m == nil {
		return 0, 0, false
	}
	low, _ = strconv.Atoi(m[1])
	high = low
	if m[2] != "" {
		high, _ = strconv.Atoi(m[2])
	}
	return low, high, low <= countMax && high <= countMax
}

// parseSize reads an amount with the suffixes of Kubernetes: Ki, Mi, Gi, Ti are powers of
// 1024, k, M, G, T powers of 1000.
func parseSize(s string) (api.Bytes, bool) {
	m := sizeRule.FindStringSubmatch(s)
	if m == nil {
		return 0, false
	}
	v, _ := strconv.ParseInt(m[1], 10, 64)
	unit := map[string]api.Bytes{
		"": 1, "Ki": api.KiB, "Mi": api.MiB, "Gi": api.GiB, "Ti": api.TiB,
		"k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
	}[m[2]]
	most := api.Bytes(memoryMax) * api.MiB
	if api.Bytes(v) > most/unit {
		return 0, false
	}
	return api.Bytes(v) * unit, true
}

// parseNet reads an address range, or one address as a range of one.
func parseNet(s string) (string, bool) {
	if p, err := netip.ParsePrefix(s); err == nil {
		return p.Masked().String(), true
	}
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a, a.BitLen()).String(), true
	}
	return "", false
}

// cleanAbs reports whether s is an absolute path without detours, a trailing slash aside.
func cleanAbs(s string) bool {
	return path.IsAbs(s) && !hasControl(s) && (s == "/" || path.Clean(s) == strings.TrimSuffix(s, "/")) && len(s) < 4096
}
