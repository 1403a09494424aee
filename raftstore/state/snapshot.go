package state

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"slipway/api"
)

// The form of a snapshot: a header line, then one line per record, table by table in key
// order, each {"t": table, "k": key, "v": record} in JSON. Go writes maps with sorted keys, so
// that equal states have equal bytes. Indexes are left out and built again. The format in the
// header is that of the rack.
type snapshotHeader struct {
	Format        uint32 `json:"format"`
	Index         uint64 `json:"index"`
	RoutesVersion uint64 `json:"routes_version"`
	Rack          Rack   `json:"rack"`
}

type snapshotRecord struct {
	Table string          `json:"t"`
	Key   string          `json:"k,omitempty"`
	Value json.RawMessage `json:"v"`
}

// Encode writes the snapshot of the view.
func (v *View) Encode(w io.Writer) error {
	b := bufio.NewWriterSize(w, 256<<10)
	enc := json.NewEncoder(b)
	h := snapshotHeader{Format: v.format, Index: v.index, RoutesVersion: v.routesVersion, Rack: v.rack}
	if err := enc.Encode(h); err != nil {
		return fmt.Errorf("encode snapshot header: %w", err)
	}
	for _, write := range []func() error{
		func() error { return encodeTable(enc, "app", v.apps) },
		func() error { return encodeTable(enc, "build", v.builds) },
		func() error { return encodeTable(enc, "release", v.releases) },
		func() error { return encodeTable(enc, "deployment", v.deployments) },
		func() error { return encodeTable(enc, "service", v.services) },
		func() error { return encodeProcesses(enc, v.processes) },
		func() error { return encodeTable(enc, "node", v.nodes) },
		func() error { return encodeTable(enc, "pool", v.pools) },
		func() error { return encodeTable(enc, "routes", v.routes) },
		func() error { return encodeTable(enc, "token", v.tokens) },
		func() error { return encodeTable(enc, "removed", v.removed) },
		func() error { return encodeTable(enc, "server", v.servers) },
		func() error { return encodeTable(enc, "authority", v.authorities) },
		func() error { return encodeTable(enc, "holding", v.holdings) },
		func() error { return encodeTable(enc, "registry", v.registries) },
		func() error { return encodeTable(enc, "request", v.requests) },
		func() error { return encodeTable(enc, "audit", v.audit) },
		func() error { return encodeTable(enc, "history", v.history) },
	} {
		if err := write(); err != nil {
			return err
		}
	}
	if err := b.Flush(); err != nil {
		return fmt.Errorf("encode snapshot: %w", err)
	}
	return nil
}

func encodeTable[V any](enc *json.Encoder, name string, t *table[V]) error {
	for k, v := range t.all("") {
		if err := encodeRecord(enc, name, k, v); err != nil {
			return err
		}
	}
	return nil
}

func encodeProcesses(enc *json.Encoder, r *roster) error {
	for p := range r.all() {
		if err := encodeRecord(enc, "process", string(p.ID), p); err != nil {
			return err
		}
	}
	return nil
}

func encodeRecord(enc *json.Encoder, table, key string, v any) error {
	doc, err := json.Marshal(v)
	if err == nil {
		err = enc.Encode(snapshotRecord{Table: table, Key: key, Value: doc})
	}
	if err != nil {
		return fmt.Errorf("encode %s %q: %w", table, key, err)
	}
	return nil
}

// Decode reads a snapshot. A newer format or an unknown table is an error: a replica that
// skipped records would diverge.
func Decode(r io.Reader) (*State, error) {
	dec := json.NewDecoder(bufio.NewReaderSize(r, 256<<10))
	var h snapshotHeader
	if err := dec.Decode(&h); err != nil {
		return nil, fmt.Errorf("decode snapshot header: %w", err)
	}
	if !Formats().Reads(h.Format) {
		return nil, api.Errorf(api.CodeConflict, "the snapshot has format %d, this program reads formats %s; use the version of slipway that wrote it, or one after it", h.Format, Formats())
	}
	c := &change{View: newView()}
	c.tx = 1
	c.index, c.rack, c.format = h.Index, h.Rack, max(h.Format, FormatFirst)
	for {
		var rec snapshotRecord
		if err := dec.Decode(&rec); err == io.EOF {
			break
		} else if err != nil {
			return nil, fmt.Errorf("decode snapshot: %w", err)
		}
		if err := c.restore(rec); err != nil {
			return nil, fmt.Errorf("decode %s %q: %w", rec.Table, rec.Key, err)
		}
	}
	c.routesVersion = h.RoutesVersion
	return &State{view: &c.View, tx: c.tx}, nil
}

// restore enters one record into its table and the indexes.
func (c *change) restore(rec snapshotRecord) error {
	switch rec.Table {
	case "app":
		return restore(rec, c.putApp)
	case "build":
		return restore(rec, c.putBuild)
	case "release":
		return restore(rec, c.putRelease)
	case "deployment":
		return restore(rec, c.putDeployment)
	case "service":
		return restore(rec, c.putService)
	case "process":
		return restore(rec, c.putProcess)
	case "node":
		return restore(rec, c.putNode)
	case "pool":
		return restore(rec, c.putPool)
	case "token":
		return restore(rec, c.putToken)
	case "routes":
		return restore(rec, func(r appRoutes) { put(c, &c.routes, rec.Key, &r) })
	case "removed":
		return restore(rec, func(r removal) { put(c, &c.removed, rec.Key, &r) })
	case "server":
		return restore(rec, func(r api.Server) { put(c, &c.servers, rec.Key, &r) })
	case "holding":
		return restore(rec, func(r Holding) { put(c, &c.holdings, rec.Key, &r) })
	case "authority":
		return restore(rec, func(r Authority) { put(c, &c.authorities, rec.Key, &r) })
	case "registry":
		return restore(rec, func(r Registry) { put(c, &c.registries, rec.Key, &r) })
	case "audit":
		return c.restoreEvent(&c.audit, rec)
	case "history":
		return c.restoreEvent(&c.history, rec)
	case "request":
		return restore(rec, func(o outcome) { put(c, &c.requests, rec.Key, &o) })
	}
	return fmt.Errorf("unknown table")
}

func restore[V any](rec snapshotRecord, enter func(V)) error {
	var v V
	// A field that is not known would be missing from the next snapshot.
	dec := json.NewDecoder(bytes.NewReader(rec.Value))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&v); err != nil {
		return err
	}
	enter(v)
	return nil
}
