package fingerprint

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestStamp stamps configs, and looks for the stamp in what others make of them.
func TestStamp(t *testing.T) {
	want := Label{Hash: strings.Repeat("0", 64), Since: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)}
	for name, config := range map[string]string{
		"plain":       `{"created":"2026-11-23T00:00:00Z","config":{"Env":["A=<b>"],"Labels":{"a":"b"}},"rootfs":{"diff_ids":["sha256:1"]},"unknown":{"z":1,"a":2}}`,
		"no labels":   `{"config":{"Labels":null,"Cmd":["x"]}, "rootfs" : {}}`,
		"no config":   `{"rootfs":{"diff_ids":[]}}`,
		"null config": `{"config":null}`,
		"inherited":   `{"config":{"Labels":{"dev.ecsbuild.inputs":"11 22 33","a":"b"}}}`,
	} {
		data, err := want.Write([]byte(config))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, ok := ReadLabel(data); !ok || got != want {
			t.Errorf("%s: %v, %v in %s", name, got, ok, data)
		}
		if _, ok := ReadLabel([]byte(config)); ok {
			t.Errorf("%s: a stamp before there is one", name)
		}
		again, err := want.Write(data)
		if err != nil || string(again) != string(data) {
			t.Errorf("%s: stamped twice it is %s", name, again)
		}
		for derived, change := range map[string]func(config, run map[string]any){
			"a variable":  func(_, run map[string]any) { run["Env"] = []string{"X=1"} },
			"a label":     func(_, run map[string]any) { run["Labels"].(map[string]any)["x"] = "1" },
			"a layer":     func(c, _ map[string]any) { c["rootfs"] = map[string]any{"diff_ids": []string{"sha256:1", "sha256:2"}} },
			"an hour":     func(c, _ map[string]any) { c["created"] = "2026-11-23T01:00:00Z" },
			"its history": func(c, _ map[string]any) { c["history"] = []any{map[string]any{"empty_layer": true}} },
		} {
			var c map[string]any
			if err := json.Unmarshal(data, &c); err != nil {
				t.Fatal(err)
			}
			change(c, c["config"].(map[string]any))
			changed, err := json.Marshal(c)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := ReadLabel(changed); ok {
				t.Errorf("%s with %s of another: still its stamp", name, derived)
			}
		}
	}
	if _, ok := ReadLabel([]byte("[]")); ok {
		t.Error("what is no config has a stamp")
	}
}

// TestSaw names the steps that take what was not hashed.
func TestSaw(t *testing.T) {
	one, two := "@sha256:"+strings.Repeat("1", 64), "@sha256:"+strings.Repeat("2", 64)
	for step, held := range map[string]bool{
		"[base 1/2] FROM docker.io/library/a:1" + one:                           true,
		"[base 1/2] FROM docker.io/library/a:1" + two:                           false,
		"[base 1/2] FROM docker.io/library/a:1":                                 false, // whatever the engine has of that name
		"[base 1/2] FROM docker.io/library/f" + one:                             true,  // latest, as 20.10 has it
		"[base 1/2] FROM docker.io/library/f" + two:                             false,
		"[base 1/2] FROM docker.io/library/e:1":                                 true,  // and that is the one
		"[base 1/2] FROM docker.io/library/b" + two:                             true,  // the Dockerfile says so
		"[base 1/2] FROM docker.io/library/c:1" + one:                           false, // nobody hashed it: an ONBUILD
		"FROM docker.io/library/c:1" + one:                                      false,
		"[stage-0 2/3] ONBUILD ADD http://example.com/x /x":                     false,
		"[stage-0 2/3] ONBUILD COPY . /x":                                       true,
		"docker-image://docker.io/docker/dockerfile:1" + one:                    true,
		"docker-image://docker.io/docker/dockerfile:1" + two:                    false,
		"[stage-0 2/3] ADD http://example.com/x /x":                             false,
		"[stage-0 2/3] ADD git@example.com:a/b.git /x":                          false,
		"https://example.com/x":                                                 false,
		"[stage-0 2/3] ADD a.tar /x":                                            true,
		"[stage-0 2/3] COPY --from=x /x /x":                                     true,
		"[stage-0 3/3] RUN curl https://example.com":                            true, // as any RUN
		"[internal] load metadata for docker.io/library/c:1":                    true,
		"resolve image config for docker-image://docker.io/docker/dockerfile:1": true,
	} {
		in := &Inputs{bases: map[string]string{"docker.io/library/a:1": one[1:], "docker.io/docker/dockerfile:1": one[1:], "docker.io/library/e:1": one[1:], "docker.io/library/f:latest": one[1:]},
			pinned: []string{"docker.io/library/b" + two}, local: func(ref string) []string {
				return map[string][]string{"docker.io/library/e:1": {two[1:], one[1:]}}[ref]
			}, rehash: func() bool { return true }}
		in.ObserveStep(step)
		if in.Verify() != held {
			t.Errorf("%s: held is %v", step, in.Verify())
		}
	}
	(*Inputs)(nil).ObserveStep("[1/1] FROM a")
}
