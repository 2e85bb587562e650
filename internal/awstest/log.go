package awstest

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
)

// A Request is one that the rig answered.
type Request struct {
	Action     string // IAM's name, "hub" for Docker Hub's registry
	Method     string
	Repository string
	Path       string // below the repository: "blobs/sha256:…", "manifests/v1"
	Status     int
	Bytes      int64 // of the request's body
	Answered   int64 // bytes of the answer's body
	Anonymous  bool  // for Docker Hub
}

func (q Request) with(status int) Request { q.Status = status; return q }

func (r *Rig) record(q Request) {
	r.mu.Lock()
	r.log = append(r.log, q)
	r.mu.Unlock()
}

// Requests returns what has been asked so far, in order.
func (r *Rig) Requests() []Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// Forget empties the log.
func (r *Rig) Forget() { r.mu.Lock(); r.log, r.putTimes = nil, nil; r.mu.Unlock() }

// Bytes is how much of layers and configs was sent to ECR.
func (r *Rig) Bytes() (n int64) {
	for _, q := range r.Requests() {
		// some clients send all with the last
		if strings.HasSuffix(q.Action, ":UploadLayerPart") || strings.HasSuffix(q.Action, ":CompleteLayerUpload") {
			n += q.Bytes
		}
	}
	return n
}

// Summary counts the requests to AWS and ECR by action, repository and
// status: what a golden file holds.
func (r *Rig) Summary() string {
	counts := map[string]int{}
	for _, q := range r.Requests() {
		if strings.HasPrefix(q.Action, "hub") {
			continue
		}
		line := q.Action
		if q.Repository != "" {
			line += " " + q.Repository
		}
		if strings.HasSuffix(q.Action, ":PutImage") {
			line += " " + q.Path
		}
		counts[fmt.Sprintf("%s %d", line, q.Status)]++
	}
	var lines []string
	for l, n := range counts {
		lines = append(lines, fmt.Sprintf("%s ×%d\n", l, n))
	}
	slices.Sort(lines)
	return strings.Join(lines, "")
}

// Totals counts the requests to AWS and ECR by action alone.
func (r *Rig) Totals() string {
	counts := map[string]int{}
	for _, q := range r.Requests() {
		if !strings.HasPrefix(q.Action, "hub") {
			counts[q.Action]++
		}
	}
	var lines strings.Builder
	for _, action := range slices.Sorted(maps.Keys(counts)) {
		fmt.Fprintf(&lines, "%s ×%d\n", action, counts[action])
	}
	return lines.String()
}

// MaxPutsPerSecond is the largest number of PutImage in any span of a second.
func (r *Rig) MaxPutsPerSecond() (most int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, t := range r.putTimes {
		n := 0
		for _, u := range r.putTimes[i:] {
			if u.Sub(t) < time.Second {
				n++
			}
		}
		most = max(most, n)
	}
	return most
}

// A Fault is what happens to the next requests that it matches.
type Fault struct {
	Action     string // which requests; "" for all
	Repository string // "" for all
	Times      int    // how many of them

	Delay    time.Duration // before anything else
	Status   int           // answered with this, 0 for going on
	Code     string        // of the registry's error
	Message  string
	Reset    bool  // the connection is dropped without an answer
	CutAfter int64 // the connection is dropped after so many bytes of the body

	Header  map[string]string // of the answer with Status
	Hang    bool              // there is no answer until the client goes
	Cut     bool              // the answer ends in its middle
	Garbage bool              // the answer is 200 and half of a JSON text
	Trickle bool              // the answer never ends, a byte each tenth of a second
	Digest  string            // what the answer says of its content, of a registry
}

// Inject adds a fault.
func (r *Rig) Inject(f Fault) { r.mu.Lock(); r.faults = append(r.faults, &f); r.mu.Unlock() }

func (r *Rig) fault(q Request) *Fault {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		if f.Times > 0 && (f.Action == "" || f.Action == q.Action) && (f.Repository == "" || f.Repository == q.Repository) {
			f.Times--
			return f
		}
	}
	return nil
}

// apply says whether the fault was the whole answer, which is written as AWS or as a registry
// writes an error.
func (f *Fault) apply(w http.ResponseWriter, req *http.Request, write func(w http.ResponseWriter, status int, code,
	message string)) bool {
	time.Sleep(f.Delay)
	switch {
	case f.Reset:
		panic(http.ErrAbortHandler)
	case f.Hang:
		_, _ = io.Copy(io.Discard, req.Body) // a server sees that a client has gone once it has read all
		<-req.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Cut:
		w.Header().Set("Content-Length", "1000")
		_, _ = w.Write([]byte(`{"errors":`))
		panic(http.ErrAbortHandler)
	case f.Garbage:
		_, _ = w.Write([]byte(`{"errors":`))
		return true
	case f.Trickle:
		_, _ = io.Copy(io.Discard, req.Body)
		for req.Context().Err() == nil {
			if _, err := w.Write([]byte(" ")); err != nil {
				break
			}
			_ = http.NewResponseController(w).Flush()
			time.Sleep(100 * time.Millisecond)
		}
		panic(http.ErrAbortHandler)
	case f.Status != 0:
		for k, v := range f.Header {
			w.Header().Set(k, v)
		}
		write(w, f.Status, cmp.Or(f.Code, "UNKNOWN"), f.Message)
		return true
	}
	return false
}
