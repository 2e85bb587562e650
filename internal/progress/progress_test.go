package progress

import (
	"bytes"
	"strings"
	"testing"
	"time"

	bkclient "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"
)

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                   "plain",
		"\x1b[31mred\x1b[0m":      "red",
		"10%\r50%\r100%":          "100%",
		"line\r\n":                "line",
		"a\x07b\x00c\x08":         "abc",
		"tab\tstays":              "tab\tstays",
		"\x1b]0;title\x07text":    "text",
		"é ü 日本":                  "é ü 日本",
		"half an escape \x1b":     "half an escape ",
		"half an escape \x1b[12;": "half an escape ",
	} {
		if got := clean(in); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

// TestSharedStepsOnce: two images with a common base report the same steps.
func TestSharedStepsOnce(t *testing.T) {
	var out bytes.Buffer
	d, err := New(Plain, Output{W: &out}, []string{"app", "nginx"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	later := now.Add(2 * time.Second)
	for _, image := range []string{"app", "nginx", "app"} {
		v := &bkclient.Vertex{Digest: digest.FromString("step"), Name: "[1/2] RUN make", Started: &now}
		d.Status(image, &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}, Logs: []*bkclient.VertexLog{{Vertex: v.Digest, Data: []byte("hello\nwor")}}})
		if image == "nginx" {
			continue
		}
		d.Status(image, &bkclient.SolveStatus{Logs: []*bkclient.VertexLog{{Vertex: v.Digest, Data: []byte("ld\n")}}})
	}
	d.Status("app", &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{{Digest: digest.FromString("step"), Name: "[1/2] RUN make", Started: &now, Completed: &later}}})
	d.Note("", "done")
	d.Close()
	d.Note("", "too late")
	want := "app      | [1/2] RUN make\napp      |   hello\napp      |   world\napp      |   hello\napp      |   world\napp      | [1/2] RUN make: 2.0 s\necsbuild | done\n"
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestBytes(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1500000: "1.5 MB", 4 << 30: "4.3 GB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d is %s", n, got)
		}
	}
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	d, _ := New(JSON, Output{W: &out}, nil)
	now := time.Unix(1700000000, 0)
	v := &bkclient.Vertex{Digest: digest.FromString("x"), Name: "[1/1] COPY . /", Started: &now}
	d.Status("app", &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
	d.Status("app", &bkclient.SolveStatus{Vertexes: []*bkclient.Vertex{v}})
	d.Close()
	want := `{"time":"2023-11-14T22:13:20Z","type":"step","image":"app","step":"[1/1] COPY . /","status":"started"}`
	if got, end, _ := strings.Cut(out.String(), "\n"); got != want || !strings.Contains(end, `"type":"end"`) {
		t.Errorf("got %s", out.String())
	}
}
