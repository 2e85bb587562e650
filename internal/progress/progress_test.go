package progress

import (
	"bytes"
	"cmp"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

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
		v := BuildStep{ID: digest.FromString("step"), Name: "[1/2] RUN make", Kind: Instruction, Started: &now}
		d.Status(image, &BuildStatus{Steps: []BuildStep{v}, Output: []StepOutput{{Step: v.ID, Data: []byte("hello\nwor")}}})
		if image == "nginx" {
			continue
		}
		d.Status(image, &BuildStatus{Output: []StepOutput{{Step: v.ID, Data: []byte("ld\n")}}})
	}
	d.Status("app", &BuildStatus{Steps: []BuildStep{{ID: digest.FromString("step"), Name: "[1/2] RUN make",
		Kind: Instruction, Started: &now, Completed: &later}}})
	d.Note("", Info, "done")
	d.Close()
	d.Note("", Info, "too late")
	want := "app      | [1/2] RUN make\napp      |   hello\napp      |   world\napp      |   hello\napp      |   world\napp      | [1/2] RUN make: 2.0 s\necsbuild | done\n"
	if out.String() != want {
		t.Errorf("got:\n%s", out.String())
	}
}

func TestJSONLines(t *testing.T) {
	var out bytes.Buffer
	d, _ := New(JSON, Output{W: &out}, nil)
	now := time.Unix(1700000000, 0)
	end := now.Add(time.Second)
	v := func(name, failure string, completed *time.Time) *BuildStatus {
		return &BuildStatus{Steps: []BuildStep{{ID: digest.FromString(name), Name: name, Kind: stepKind(name), Started: &now,
			Completed: completed, Error: failure, Canceled: strings.Contains(failure, "canceled")}}}
	}
	log := func(name, text string) *BuildStatus {
		return &BuildStatus{Output: []StepOutput{{Step: digest.FromString(name), Data: []byte(text), Time: now}}}
	}
	d.Note("", Warning, "one")
	d.Status("app", v("[1/1] COPY . /", "", nil))
	d.Status("app", v("[1/1] COPY . /", "", nil))
	d.Status("app", log("[1/1] COPY . /", "in two pi"))
	d.Status("app", log("[1/1] COPY . /", "eces\nno newline"))
	last := v("[1/1] COPY . /", "", &end)
	last.Output = log("[1/1] COPY . /", " at the end").Output
	d.Status("app", last)
	d.Status("app", v("[2/2] RUN make", "process was context canceled", &end))
	d.Close()
	var got strings.Builder
	for line := range strings.Lines(out.String()) {
		_, rest, _ := strings.Cut(line, `"type":`)
		got.WriteString(rest)
	}
	want := `"warning","text":"one"}
"step","image":"app","step":"[1/1] COPY . /","status":"started"}
"output","image":"app","step":"[1/1] COPY . /","text":"in two pieces"}
"output","image":"app","step":"[1/1] COPY . /","text":"no newline at the end"}
"step","image":"app","step":"[1/1] COPY . /","status":"done","seconds":1}
"step","image":"app","step":"[2/2] RUN make","status":"stopped"}
`
	if got.String() != want {
		t.Errorf("got %s", got.String())
	}
	if e := d.End(); e.Type != "end" || e.Seconds <= 0 || (*Display)(nil).End().Type != "end" {
		t.Errorf("the end is %+v", e)
	}
}

// TestAnotherTry: a step that begins again after it has failed, as on another builder, is told of
// from its beginning to its end.
func TestAnotherTry(t *testing.T) {
	now := time.Now()
	later := now.Add(2 * time.Second)
	id := digest.FromString("step")
	status := func(completed *time.Time, failure, text string) *BuildStatus {
		s := &BuildStatus{Steps: []BuildStep{{ID: id, Name: "[1/1] RUN make", Kind: Instruction, Started: &now,
			Completed: completed, Error: failure, Canceled: failure != ""}}}
		if text != "" {
			s.Output = []StepOutput{{Step: id, Stream: 1, Data: []byte(text), Time: now}}
		}
		return s
	}
	for mode, want := range map[Mode]string{
		Plain: `app      | [1/1] RUN make
app      |   one
app      | [1/1] RUN make: stopped
app      | [1/1] RUN make
app      |   two
app      |   unfinished
app      | [1/1] RUN make: 2.0 s
`,
		JSON: `started one stopped started two unfinished done`,
	} {
		var out bytes.Buffer
		d, err := New(mode, Output{W: &out}, []string{"app"})
		if err != nil {
			t.Fatal(err)
		}
		d.Status("app", status(nil, "", "one\n"))
		d.Status("app", status(&later, "the builder is lost", ""))
		d.Status("app", status(nil, "", "two\nunfinished"))
		d.Status("app", status(&later, "", ""))
		d.Close()
		got := out.String()
		if mode == JSON {
			var words []string
			for line := range strings.Lines(got) {
				var l Line
				if err := json.Unmarshal([]byte(line), &l); err != nil {
					t.Fatal(err)
				}
				words = append(words, cmp.Or(l.Status, l.Text))
			}
			got = strings.Join(words, " ")
		}
		if got != want {
			t.Errorf("%s:\n%s", mode, got)
		}
	}
}
