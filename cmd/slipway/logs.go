package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"slipway/api"
	"slipway/api/client"
)

// stampLayout is how moments are printed: UTC, to the second.
const stampLayout = "2006-01-02T15:04:05Z"

func (s *shell) logsCommand() *cobra.Command {
	var service, process, filter string
	since := 2 * time.Minute
	follow, noFollow, previous, raw := true, false, true, false
	var c *cobra.Command
	c = s.verb(verb{
		use: "logs", short: "Print and follow the logs of an app",
		long: "Print what the processes of an app wrote lately, and follow it. Processes that a deploy starts are\n" +
			"followed as well. Control characters are taken out, unless --raw is given.",
		example: "  slipway logs\n  slipway logs -s web --since 1h --no-follow\n  slipway logs --filter ERROR",
		run: func(ctx context.Context, _ []string) error {
			switch {
			case noFollow && c.Flags().Changed("follow"):
				return usage("--follow and --no-follow exclude one another")
			case since < 0:
				return usage("--since %s lies ahead; it is how far back to begin, such as 10m", since)
			}
			rack, app, err := s.open(ctx)
			if err != nil {
				return err
			}
			q := api.LogQuery{
				App: app, Service: api.ServiceName(service), Process: api.ProcessID(process), Filter: filter,
				Follow: follow && !noFollow, Previous: previous || process != "",
			}
			if since > 0 {
				q.Since = s.now().Add(-since)
			}
			return s.logs(ctx, rack, q, raw)
		},
	})
	c.Flags().StringVarP(&service, "service", "s", "", "of this service only")
	c.Flags().StringVar(&process, "process", "", "of this process only")
	c.Flags().StringVar(&filter, "filter", "", "only lines that contain this text")
	c.Flags().DurationVar(&since, "since", since, "how far back to begin; 0 is the beginning")
	c.Flags().BoolVarP(&follow, "follow", "f", follow, "go on with what comes")
	c.Flags().BoolVar(&noFollow, "no-follow", false, "end after what there is")
	c.Flags().BoolVar(&previous, "previous", previous, "also of processes that have ended")
	c.Flags().BoolVar(&raw, "raw", false, "print lines as they were written, and nothing else")
	return c
}

// logs prints lines; a reader that follows goes on when the rack was away and is back.
func (s *shell) logs(ctx context.Context, rack *client.Client, q api.LogQuery, raw bool) error {
	if q.Follow {
		if _, err := rack.App(ctx, q.App); err != nil {
			return err
		}
	}
	q.After = map[string]api.LogMark{}
	return s.persist(ctx, q.Follow, func(heard func()) error {
		return rack.Logs(ctx, q, func(lines []api.LogLine) error {
			heard()
			for i := range lines {
				if l := &lines[i]; l.Seq > 0 {
					q.After[l.Log()] = api.LogMark{At: l.At, Seq: l.Seq}
				}
			}
			return s.printLines(lines, raw)
		})
	})
}

// printLines writes lines in one write per batch.
func (s *shell) printLines(lines []api.LogLine, raw bool) error {
	var b strings.Builder
	for _, l := range lines {
		if s.json {
			if err := s.row(l); err != nil {
				return err
			}
			continue
		}
		if l.Dropped > 0 {
			fmt.Fprintf(&b, "(%s lost: the reader was too slow)\n", count(l.Dropped, "line"))
		}
		if raw {
			b.WriteString(l.Text + "\n")
			continue
		}
		b.WriteString(logLine(l) + "\n")
	}
	_, err := fmt.Fprint(s.out, b.String())
	return err
}

func logLine(l api.LogLine) string {
	from := string(l.Service)
	if l.Process != "" {
		from += "/" + string(l.Process)
	}
	if l.Stream == "system" {
		from = strings.TrimSpace(from + " [system]")
	}
	return fmt.Sprintf("%s %s %s", l.At.UTC().Format(stampLayout), oneLine(from), strings.ReplaceAll(clean(l.Text), "\n", " "))
}
