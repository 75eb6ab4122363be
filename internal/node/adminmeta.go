package node

import (
	"net/http"
	"strconv"
	"time"

	"github.com/quorate/quorate/metasvc"
)

// dump returns the whole metadata, confirmed by their leader unless
// ?unconfirmed=true asks for what this node has.
func (a *clusterAdmin) dump(r *http.Request) (*metasvc.Dump, error) {
	return a.client.Dump(r.Context(), r.FormValue("unconfirmed") != "true")
}

// showDump answers with the metadata as JSON.
func (a *clusterAdmin) showDump(r *http.Request) (any, error) { return a.dump(r) }

// serveDump answers with the metadata in the form that a restore takes. Failures
// are told as JSON.
func (a *clusterAdmin) serveDump(w http.ResponseWriter, r *http.Request) {
	d, err := a.dump(r)
	if err != nil {
		a.respond(w, r, nil, err)
		return
	}
	encoded := d.Encode()
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(encoded)))
	w.Header().Set("Last-Modified", time.UnixMilli(d.Taken).UTC().Format(http.TimeFormat))
	// The client may be gone by now; there is nobody else to tell.
	_, _ = w.Write(encoded)
}
