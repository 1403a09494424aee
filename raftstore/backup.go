package raftstore

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"time"

	"slipway/api"
	"slipway/raftstore/state"
)

// The form of what is sealed in a backup: sections, each a name and blocks. Name and block have
// their length before them as a varint; a block of no bytes ends a section and a name of no bytes
// the backup. The sections are BackupInfo as JSON, the files, and the state as snapshots have it.
const (
	sectionInfo  = "info"
	sectionFile  = "file/"
	sectionState = "state"
	blockSize    = 64 << 10
	nameMax      = 1024
	fileSizeMax  = 1 << 20 // of one file beside the state
)

// BackupInfo says what a backup is of.
type BackupInfo struct {
	Rack      string    `json:"rack"`
	ClusterID string    `json:"cluster_id"`
	Epoch     string    `json:"epoch"` // of the rack it was made of
	Index     uint64    `json:"index"` // of the last entry that it contains
	Term      uint64    `json:"term"`
	Created   time.Time `json:"created"`
	Server    string    `json:"server"` // that made it
	// Confirmed says that nothing acknowledged before Created is missing. It is false for the
	// backup of a server that does not lead: it has what that server had.
	Confirmed bool     `json:"confirmed"`
	Files     []string `json:"files"` // paths of the files beside the state
}

// Backup writes the state, and extra files under slash-separated relative paths, to w, encrypted
// with a key that is drawn from the passphrase. The state is streamed while the rack goes on;
// extra is where the keyring and the CA go, without which the state is of no use.
func (s *Store) Backup(ctx context.Context, w io.Writer, passphrase string, extra map[string][]byte) error {
	for path, b := range extra {
		if err := checkBackupPath(path); err != nil {
			return err
		}
		if len(b) > fileSizeMax {
			return api.Errorf(api.CodeInvalid, "backup: file %q has %s, the limit is %s", path, api.Bytes(len(b)), api.Bytes(fileSizeMax))
		}
	}
	view, err := s.Linearizable(ctx)
	confirmed := err == nil
	if err != nil {
		view = s.View()
	}
	epoch, err := Epoch(s.cfg.Dir)
	if err != nil {
		return err
	}
	info := BackupInfo{
		Rack: view.Rack().Name, ClusterID: view.Rack().ClusterID, Epoch: epoch, Index: view.Index(), Term: max(1, s.raft.CurrentTerm()),
		Created: time.Now().UTC(), Server: s.cfg.ID, Confirmed: confirmed, Files: slices.Sorted(maps.Keys(extra)),
	}
	return writeBackup(ctx, w, passphrase, sealCost, info, extra, view)
}

// writeBackup seals one backup.
func writeBackup(ctx context.Context, w io.Writer, passphrase string, cost kdf, info BackupInfo, extra map[string][]byte, view *state.View) error {
	seal, err := newSealer(w, passphrase, cost)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(writerFunc(func(p []byte) (int, error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		return seal.Write(p)
	}), chunkSize)
	doc, err := json.Marshal(info)
	if err == nil {
		err = writeSection(out, sectionInfo, bytesOf(doc))
	}
	for _, path := range info.Files {
		if err == nil {
			err = writeSection(out, sectionFile+path, bytesOf(extra[path]))
		}
	}
	if err == nil {
		err = writeSection(out, sectionState, view.Encode)
	}
	if err == nil {
		err = out.WriteByte(0)
	}
	if err == nil {
		err = out.Flush()
	}
	if err == nil {
		err = seal.Close()
	}
	if err != nil {
		return fmt.Errorf("back up rack %q: %w", info.Rack, err)
	}
	return nil
}

// writerFunc is a function that writes.
type writerFunc func(p []byte) (int, error)

// Write calls f.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func bytesOf(b []byte) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := w.Write(b)
		return err
	}
}

// writeSection writes a section whose body is what write writes.
func writeSection(out *bufio.Writer, name string, write func(io.Writer) error) error {
	if _, err := out.Write(binary.AppendUvarint(nil, uint64(len(name)))); err != nil {
		return err
	}
	if _, err := out.WriteString(name); err != nil {
		return err
	}
	body := bufio.NewWriterSize(writerFunc(func(p []byte) (int, error) { // each write is a block
		if _, err := out.Write(binary.AppendUvarint(nil, uint64(len(p)))); err != nil {
			return 0, err
		}
		return out.Write(p)
	}), blockSize)
	if err := write(body); err != nil {
		return err
	}
	if err := body.Flush(); err != nil {
		return err
	}
	return out.WriteByte(0)
}

// section is a part of a backup that is being read.
type section struct {
	name  string
	in    *bufio.Reader
	block uint64 // bytes of the present block that were not read yet
	ended bool
}

// nextSection returns the next section, nil behind the last.
func nextSection(in *bufio.Reader) (*section, error) {
	n, err := binary.ReadUvarint(in)
	if err != nil {
		return nil, unexpected(err)
	}
	if n == 0 {
		if _, err := in.ReadByte(); err != io.EOF {
			return nil, damaged("something follows its end")
		}
		return nil, nil
	}
	if n > nameMax {
		return nil, damaged("the name of a section is too long")
	}
	name := make([]byte, n)
	if _, err := io.ReadFull(in, name); err != nil {
		return nil, unexpected(err)
	}
	return &section{name: string(name), in: in}, nil
}

// Read reads the body.
func (s *section) Read(p []byte) (int, error) {
	if s.block == 0 && !s.ended {
		n, err := binary.ReadUvarint(s.in)
		if err != nil {
			return 0, unexpected(err)
		}
		s.block, s.ended = n, n == 0
	}
	if s.ended {
		return 0, io.EOF
	}
	n, err := s.in.Read(p[:min(uint64(len(p)), s.block)])
	s.block -= uint64(n)
	if err != nil {
		return n, unexpected(err)
	}
	return n, nil
}

// unexpected turns the end of the file into an error: what is sealed says where it ends.
func unexpected(err error) error {
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged("it ends within a section")
	}
	return err
}

// checkBackupPath accepts paths that stay below the directory they are restored to.
func checkBackupPath(path string) error {
	if !fs.ValidPath(path) || path == "." || strings.ContainsAny(path, "\x00\\") || len(path) > nameMax-len(sectionFile) ||
		path == RaftDir || strings.HasPrefix(path, RaftDir+"/") {
		return api.Errorf(api.CodeInvalid, "backup: %q is not a relative path of a file outside of %s", path, RaftDir)
	}
	return nil
}

// contents receives what a backup holds, in its order.
type contents struct {
	file  func(path string, b []byte) error
	state func(info BackupInfo, r io.Reader) error
}

// readBackup reads a whole backup. Each part is genuine when it is handed over; that the rest is
// too is known when it returns.
func readBackup(r io.Reader, passphrase string, c contents) (BackupInfo, error) {
	var info BackupInfo
	open, err := newOpener(r, passphrase)
	if err != nil {
		return info, err
	}
	in := bufio.NewReaderSize(open, chunkSize)
	var seen []string
	for {
		s, err := nextSection(in)
		if err != nil {
			return info, err
		}
		if s == nil {
			break
		}
		if err := s.handOver(&info, c); err != nil {
			return info, err
		}
		if _, err := io.Copy(io.Discard, s); err != nil {
			return info, err
		}
		seen = append(seen, s.name)
	}
	want := []string{sectionInfo}
	for _, path := range info.Files {
		want = append(want, sectionFile+path)
	}
	if want = append(want, sectionState); !slices.Equal(seen, want) {
		return info, damaged(fmt.Sprintf("it has the parts %q, not %q", seen, want))
	}
	return info, nil
}

// handOver gives one section to whom it is for.
func (s *section) handOver(info *BackupInfo, c contents) error {
	path, isFile := strings.CutPrefix(s.name, sectionFile)
	switch {
	case s.name == sectionState:
		return c.state(*info, s)
	case s.name != sectionInfo && !isFile:
		return api.Errorf(api.CodeInvalid, "the backup has a part %q, which this program does not know; use a newer slipwayd", s.name)
	}
	b, err := io.ReadAll(io.LimitReader(s, fileSizeMax+1))
	if err != nil {
		return err
	}
	if len(b) > fileSizeMax {
		return damaged(fmt.Sprintf("part %q is too large", s.name))
	}
	if isFile {
		if err := checkBackupPath(path); err != nil {
			return err
		}
		return c.file(path, b)
	}
	if err := json.Unmarshal(b, info); err != nil {
		return damaged(fmt.Sprintf("what it says of itself cannot be read: %v", err))
	}
	return nil
}
