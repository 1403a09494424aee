package rest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// doc is an object of JSON.
type doc = map[string]any

// openAPI describes the routes, in OpenAPI 3.1.
func openAPI() []byte {
	paths, schemas := doc{}, doc{}
	for _, rt := range routes() {
		path := strings.ReplaceAll(rt.path, "...}", "}")
		methods, ok := paths[path].(doc)
		if !ok {
			methods = doc{}
			paths[path] = methods
		}
		method, _, _ := strings.Cut(rt.pattern(), " ")
		methods[strings.ToLower(method)] = describe(&rt, schemas)
	}
	out, err := json.MarshalIndent(doc{
		"openapi": "3.1.0",
		"info": doc{
			"title": "Slipway rack API", "version": version,
			"description": "The rack API of Convox as a Slipway rack serves it. Websockets are GET requests with an upgrade: text messages carry bytes, an empty binary message ends a stream. Errors are plain text.",
		},
		"security": []doc{{"token": []string{}}},
		"paths":    paths,
		"components": doc{
			"securitySchemes": doc{"token": doc{"type": "http", "scheme": "basic", "description": "any user, and a token of the rack as password"}},
			"schemas":         schemas,
		},
	}, "", "  ")
	if err != nil {
		panic(fmt.Sprintf("describe the routes: %v", err)) // maps and texts only
	}
	return append(out, '\n')
}

// describe is the operation of one route.
func describe(rt *route, schemas doc) doc {
	responses := doc{"default": doc{"description": "an error, as a sentence", "content": doc{"text/plain": doc{"schema": doc{"type": "string"}}}}}
	op := doc{"summary": rt.summary, "operationId": operationID(rt), "x-right": rt.right, "responses": responses}
	if rt.missing != "" {
		responses["501"] = doc{"description": rt.missing}
	} else {
		responses[successOf(rt)] = success(rt, schemas)
	}
	var params []doc
	form, required := doc{}, []string{}
	for _, p := range rt.all() {
		text := p.doc
		if p.missing {
			text = "Not supported: " + text
		}
		schema := p.schema()
		if p.in == inForm {
			schema["description"] = text
			form[p.name] = schema
			if p.required {
				required = append(required, p.name)
			}
			continue
		}
		params = append(params, doc{"name": p.name, "in": string(p.in), "required": p.required, "description": text, "schema": schema})
	}
	if params != nil {
		op["parameters"] = params
	}
	switch {
	case rt.body != "":
		op["requestBody"] = doc{"required": true, "description": rt.body, "content": doc{"application/octet-stream": doc{}}}
	case len(form) > 0:
		schema := doc{"type": "object", "properties": form}
		if len(required) > 0 {
			schema["required"] = required
		}
		op["requestBody"] = doc{"content": doc{"application/x-www-form-urlencoded": doc{"schema": schema}}}
	}
	return op
}

// operationID names an operation by its method and path: "get-apps-app-releases".
func operationID(rt *route) string {
	words := strings.FieldsFunc(strings.ToLower(rt.method)+rt.path, func(r rune) bool { return strings.ContainsRune("/{}.-", r) })
	return strings.Join(words, "-")
}

func successOf(rt *route) string {
	if rt.method == socketMethod {
		return "101"
	}
	return "200"
}

func success(rt *route, schemas doc) doc {
	switch {
	case rt.answer == exitStatus:
		return doc{"description": "the output, and at its end the text " + exitMark + "CODE with the exit status"}
	case rt.answer == rawBytes && rt.method == socketMethod:
		return doc{"description": "the bytes of the connection, both ways"}
	case rt.answer == rawBytes:
		return doc{"description": "a compressed tar", "content": doc{"application/octet-stream": doc{}}}
	case rt.method == socketMethod:
		return doc{"description": "lines of text"}
	case rt.answer == nil && slices.Contains(rt.calls, "Session") && rt.body == "":
		return doc{"description": "a tar", "content": doc{"application/octet-stream": doc{}}}
	case rt.answer == nil:
		return doc{"description": "done", "content": doc{"text/plain": doc{"schema": doc{"type": "string", "const": "ok\n"}}}}
	}
	return doc{"description": "the answer", "content": doc{"application/json": doc{"schema": schemaOf(reflect.TypeOf(rt.answer), schemas)}}}
}

// schema is the type of a parameter with its limits.
func (p *param) schema() doc {
	switch p.kind {
	case kindNumber:
		return doc{"type": "integer", "minimum": p.least, "maximum": cmp.Or(p.most, numberMax)}
	case kindBool:
		return doc{"type": "boolean"}
	case kindDuration:
		return doc{"type": "string", "examples": []string{"2m0s"}}
	}
	return doc{"type": "string", "maxLength": cmp.Or(p.most, textMax)}
}

// schemaOf describes a type of an answer; structs go to schemas by their name.
func schemaOf(t reflect.Type, schemas doc) doc {
	switch {
	case t == reflect.TypeFor[time.Time]():
		return doc{"type": "string", "format": "date-time"}
	case t.Kind() == reflect.Slice:
		return doc{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case t.Kind() == reflect.Map:
		return doc{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case t.Kind() == reflect.String:
		return doc{"type": "string"}
	case t.Kind() == reflect.Bool:
		return doc{"type": "boolean"}
	case t.Kind() == reflect.Float64:
		return doc{"type": "number"}
	case t.Kind() == reflect.Struct:
		fields, names := doc{}, []string{}
		for i := range t.NumField() {
			name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
			fields[name] = schemaOf(t.Field(i).Type, schemas)
			names = append(names, name)
		}
		schemas[t.Name()] = doc{"type": "object", "properties": fields, "required": names}
		return doc{"$ref": "#/components/schemas/" + t.Name()}
	}
	return doc{"type": "integer"}
}
