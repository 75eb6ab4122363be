package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"
)

// ctlTimeout bounds one request; a seal waits for all its replicas.
const ctlTimeout = 10 * time.Minute

// ctlCommand groups what is asked of a running cluster.
type ctlCommand struct {
	Nodes       ctlNodes       `cmd:"" help:"The nodes: list, describe, drain, undrain, remove."`
	Tenants     ctlTenants     `cmd:"" help:"The tenants: list, describe."`
	Policies    ctlPolicies    `cmd:"" help:"The policies: list, describe, alter."`
	Buckets     ctlBuckets     `cmd:"" help:"The buckets of time: list, describe, cut, seal."`
	Sets        ctlSets        `cmd:"" help:"The ReplicaSets: list, describe, transfer, add, remove, move, checksum, repair."`
	Replicas    ctlReplicas    `cmd:"" help:"The replicas of the sets: list."`
	Meta        ctlMeta        `cmd:"" help:"The metadata: show, dump, restore."`
	Controllers ctlControllers `cmd:"" help:"The loops that keep the cluster as it is to be: list, pause, resume, plan."`
}

// adminFlags say which node is asked, and how its answer is printed.
type adminFlags struct {
	URL    *url.URL `name:"url" default:"http://127.0.0.1:9242" placeholder:"URL" help:"The admin listener of any node (default ${default})."`
	Output string   `name:"output" short:"o" enum:"table,json" default:"table" placeholder:"FORM" help:"table or json (default ${default})."`
}

// get asks for data.
func (f *adminFlags) get(ctx context.Context, path string, parameters url.Values) (json.RawMessage, error) {
	return f.request(ctx, http.MethodGet, path, parameters)
}

// post asks for a change.
func (f *adminFlags) post(ctx context.Context, path string, parameters url.Values) (json.RawMessage, error) {
	return f.request(ctx, http.MethodPost, path, parameters)
}

func (f *adminFlags) request(ctx context.Context, method, path string, parameters url.Values) (json.RawMessage, error) {
	answer, err := f.exchange(ctx, method, path, parameters)
	if err != nil {
		return nil, err
	}
	return answer.data()
}

// adminAnswer is what a node answered.
type adminAnswer struct {
	target string
	code   int
	status string
	body   []byte
}

// exchange sends a request and returns the answer, whatever it is.
func (f *adminFlags) exchange(ctx context.Context, method, path string, parameters url.Values) (adminAnswer, error) {
	ctx, cancel := context.WithTimeout(ctx, ctlTimeout)
	defer cancel()
	target := f.URL.JoinPath("api/v1/admin", path)
	target.RawQuery = parameters.Encode()
	req, err := http.NewRequestWithContext(ctx, method, target.String(), http.NoBody)
	if err != nil {
		return adminAnswer{}, err
	}
	resp, err := http.DefaultClient.Do(req)
	if errors.Is(err, syscall.ECONNREFUSED) {
		return adminAnswer{}, fmt.Errorf("%w: no node has its admin listener there; name another node's by --url (of --cluster.local they are 127.0.0.1:9242, 9252, 9262 and so on)", err)
	}
	if err != nil {
		return adminAnswer{}, err
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return adminAnswer{}, fmt.Errorf("read the answer of %s: %w", target.Host, err)
	}
	return adminAnswer{target: target.String(), code: resp.StatusCode, status: resp.Status, body: body}, nil
}

// data returns the data of an answer, or the error that it tells.
func (a adminAnswer) data() (json.RawMessage, error) {
	var answer struct {
		Status string          `json:"status"`
		Data   json.RawMessage `json:"data"`
		Error  string          `json:"error"`
	}
	if err := json.Unmarshal(a.body, &answer); err != nil {
		return nil, fmt.Errorf("%s answers %s, and not as a node of Quorate: %.200s", a.target, a.status, strings.TrimSpace(string(a.body)))
	}
	if answer.Status != "success" {
		return nil, errors.New(answer.Error)
	}
	return answer.Data, nil
}

// list prints the rows of an answer.
func (f *adminFlags) list(ctx context.Context, p process, path string, parameters url.Values, columns ...column) error {
	data, err := f.get(ctx, path, parameters)
	if err != nil {
		return err
	}
	return f.print(p, data, columns)
}

// show prints all that an answer has.
func (f *adminFlags) show(ctx context.Context, p process, path string, parameters url.Values) error {
	return f.list(ctx, p, path, parameters)
}

// change asks for a change and prints what came of it.
func (f *adminFlags) change(ctx context.Context, p process, path string, parameters url.Values) error {
	data, err := f.post(ctx, path, parameters)
	if err != nil {
		return err
	}
	if len(data) == 0 || string(data) == "null" {
		return nil
	}
	return f.print(p, data, nil)
}

// tell asks for a change and says in a line what was done; as JSON it prints the
// answer itself. The line is made of the answer, which is read into what is given.
func (f *adminFlags) tell(ctx context.Context, p process, path string, parameters url.Values, answer any, line func() string) error {
	data, err := f.post(ctx, path, parameters)
	if err != nil {
		return err
	}
	there := len(data) > 0 && string(data) != "null"
	if there && answer != nil {
		if err := json.Unmarshal(data, answer); err != nil {
			return fmt.Errorf("read the answer of %s: %w", f.URL.Host, err)
		}
	}
	switch {
	case !there && (answer != nil || f.Output == "json"):
		return nil // nothing is known but that it was done
	case f.Output != "json":
		_, err = fmt.Fprintln(p.stdout, line())
		return err
	}
	return printJSON(p.stdout, data)
}

func (f *adminFlags) print(p process, data json.RawMessage, columns []column) error {
	if f.Output == "json" {
		return printJSON(p.stdout, data)
	}
	return printTable(p.stdout, data, columns)
}

// printOne prints what a command came to.
func (f *adminFlags) printOne(p process, what any) error {
	data, err := json.Marshal(what)
	if err != nil {
		return err
	}
	return f.print(p, data, nil)
}
