package raftstore

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"

	"slipway/raftstore/state"
)

// A field of a command, or of anything in it, that came with a later format has the tag
// `since:"N"` and the JSON option omitempty or omitzero: while it is empty, programs that do not
// know it read the command. Nothing is said about fields without the tag; a test keeps their list.

// sinceOf returns the format that a field came with, 0 where it was always there.
func sinceOf(f reflect.StructField) uint32 {
	tag, ok := f.Tag.Lookup("since")
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(tag, 10, 32)
	if err != nil {
		panic(fmt.Sprintf("field %s has the tag since:%q, which is not a number", f.Name, tag))
	}
	return uint32(n)
}

// hasLate reports whether a type has late fields anywhere.
func hasLate(t reflect.Type) bool {
	late := false
	fieldsOf(t, "", map[reflect.Type]bool{}, func(_ string, f reflect.StructField) { late = late || sinceOf(f) > 0 })
	return late
}

// fieldsOf visits every field that values of a type can have, with its path. A type within itself is
// visited once.
func fieldsOf(t reflect.Type, path string, inside map[reflect.Type]bool, visit func(path string, f reflect.StructField)) {
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
		fieldsOf(t.Elem(), path, inside, visit)
	case reflect.Struct:
		if inside[t] {
			return
		}
		inside[t] = true
		defer delete(inside, t)
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() {
				at := path + "." + f.Name
				visit(at, f)
				fieldsOf(f.Type, at, inside, visit)
			}
		}
	}
}

// latest returns the latest format that a value needs for one of its fields, and which that is; 0
// for none.
func latest(v reflect.Value) (since uint32, field string) {
	late(v, func(n uint32, name string, _ reflect.Value) {
		if n > since {
			since, field = n, name
		}
	})
	return since, field
}

// late visits the fields of a value that came late and are not empty. They can be set where v can.
func late(v reflect.Value, visit func(since uint32, name string, field reflect.Value)) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			late(v.Elem(), visit)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			late(v.Index(i), visit)
		}
	case reflect.Map:
		lateInMap(v, visit)
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() || v.Field(i).IsZero() {
				continue
			}
			if since := sinceOf(f); since > 0 {
				visit(since, f.Name, v.Field(i))
			}
			late(v.Field(i), visit)
		}
	}
}

// lateInMap visits copies of the elements of a map, and stores them where the map can be set.
func lateInMap(v reflect.Value, visit func(since uint32, name string, field reflect.Value)) {
	for it := v.MapRange(); it.Next(); {
		e := reflect.New(v.Type().Elem()).Elem()
		e.Set(it.Value())
		late(e, visit)
		if v.CanSet() {
			v.SetMapIndex(it.Key(), e)
		}
	}
}

// reported tells commands in which machines report what they are from those that somebody asked
// for. Of the former an old rack gets what it knows; a part of the latter must not be missing.
func reported(c state.Command) bool {
	switch c.(type) {
	case state.RegisterNode, state.UpdateProcesses, state.AckRoutes, state.PutServer:
		return true
	}
	return false
}

// lowered returns a command without the fields that came after a format.
func lowered(c state.Command, format uint32) (state.Command, error) {
	doc, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	v := reflect.New(reflect.TypeOf(c)).Elem() // a copy that shares nothing
	if err := json.Unmarshal(doc, v.Addr().Interface()); err != nil {
		return nil, err
	}
	late(v, func(since uint32, _ string, field reflect.Value) {
		if since > format {
			field.SetZero()
		}
	})
	return v.Interface().(state.Command), nil
}
