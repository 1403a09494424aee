package agent

import (
	"context"

	"slipway/agent/exec"
	"slipway/agent/logs"
	"slipway/api"
	"slipway/api/pb"
	"slipway/runtime"
)

// sessions answers what servers open towards the node.
type sessions struct {
	runtime runtime.Runtime
	logs    *logs.Store
	witness *witness
}

// NewStreams serves logs and sessions of the processes of an engine.
func NewStreams(r runtime.Runtime, l *logs.Store) Streams {
	return &sessions{runtime: r, logs: l, witness: newWitness(r, l)}
}

// Serve handles one stream until it ends.
func (s *sessions) Serve(ctx context.Context, open *pb.Open, stream FrameStream) error {
	switch open.Kind {
	case "logs":
		return s.serveLogs(ctx, open, stream)
	case "attach":
		defer s.witness.attach(api.ProcessID(open.Process))()
	}
	return exec.Serve(ctx, s.runtime, open, stream)
}

// serveLogs sends the lines that a query asks for, and an exit frame when there are no more.
func (s *sessions) serveLogs(ctx context.Context, open *pb.Open, stream FrameStream) error {
	query, err := pb.Unmarshal[api.LogQuery](open.Query)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // the reader's going away ends the wait for more lines
		defer cancel()
		for {
			if _, err := stream.Recv(); err != nil {
				return
			}
		}
	}()
	err = s.logs.Read(ctx, query, func(lines []api.LogLine) error {
		return stream.Send(&pb.Frame{Kind: &pb.Frame_Lines{Lines: pb.Marshal(lines)}})
	})
	if err != nil {
		return err
	}
	return stream.Send(&pb.Frame{Kind: &pb.Frame_Exit{Exit: &pb.Exit{}}})
}
