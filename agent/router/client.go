package router

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"slipway/api"
)

// Client speaks to a router over its control socket. It is safe for concurrent use and holds no
// connection that matters: a router that was replaced is found again by the next call.
type Client struct {
	socket string
	http   *http.Client
}

// Dial returns a client of the router at a control socket. It connects with the first call.
func Dial(socket string) *Client {
	return &Client{socket: socket, http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		// A connection would keep the caller with a router that handed over.
		DisableKeepAlives: true,
	}}}
}

// watchWait is how long one poll of Watch may take.
const watchWait = 30 * time.Second

// Apply puts a table in force. When it returns without an error, every new request uses the
// table. A table older than the one in force is api.CodeConflict.
func (c *Client) Apply(ctx context.Context, t api.RouteTable) (api.RouterStatus, error) {
	b, err := json.Marshal(t)
	if err != nil {
		return api.RouterStatus{}, err
	}
	var rep report
	err = c.call(ctx, http.MethodPut, "/table", b, &rep)
	return rep.Status, err
}

// Status returns what the router serves now.
func (c *Client) Status(ctx context.Context) (api.RouterStatus, error) {
	var rep report
	err := c.call(ctx, http.MethodGet, "/status", nil, &rep)
	return rep.Status, err
}

// Watch calls fn with the status now, and again whenever a table came into force or a target has
// drained, until ctx ends or the router does not answer.
func (c *Client) Watch(ctx context.Context, fn func(api.RouterStatus)) error {
	for path := "/status"; ; {
		var rep report
		if err := c.call(ctx, http.MethodGet, path, nil, &rep); err != nil {
			return err
		}
		fn(rep.Status)
		path = "/status?after=" + strconv.FormatUint(rep.Revision, 10) + "&wait=" + watchWait.String()
	}
}

// SetCertificate gives the router the certificate of a host, "*.example.com", or "default": the
// chain and its key as PEM. It is in force when the call returns.
func (c *Client) SetCertificate(ctx context.Context, name string, pem []byte) error {
	return c.call(ctx, http.MethodPut, "/certificates/"+url.PathEscape(name), pem, nil)
}

// RemoveCertificate takes back what SetCertificate gave.
func (c *Client) RemoveCertificate(ctx context.Context, name string) error {
	return c.call(ctx, http.MethodDelete, "/certificates/"+url.PathEscape(name), nil, nil)
}

// Metrics returns the router's metrics as Prometheus text.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	var b []byte
	err := c.call(ctx, http.MethodGet, "/metrics", nil, &b)
	return b, err
}

func (c *Client) call(ctx context.Context, method, path string, body []byte, answer any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://router"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "router at %s: %w", c.socket, err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return api.Errorf(api.CodeUnavailable, "router at %s: %w", c.socket, err)
	}
	if resp.StatusCode != http.StatusOK {
		failed := new(api.Error)
		if json.Unmarshal(b, failed) != nil || failed.Code == "" {
			return api.Errorf(api.CodeInternal, "router at %s: %s answered %s", c.socket, path, resp.Status)
		}
		return failed
	}
	switch answer := answer.(type) {
	case nil:
		return nil
	case *[]byte:
		*answer = b
		return nil
	}
	if err := json.Unmarshal(b, answer); err != nil {
		return fmt.Errorf("router at %s: %w", c.socket, err)
	}
	return nil
}
