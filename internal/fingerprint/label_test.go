package fingerprint

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// TestLabel labels configs, and looks for the label in what others make of them.
func TestLabel(t *testing.T) {
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
			t.Errorf("%s: a label before there is one", name)
		}
		again, err := want.Write(data)
		if err != nil || string(again) != string(data) {
			t.Errorf("%s: labeled twice it is %s", name, again)
		}
		for derived, change := range map[string]func(config, run map[string]any){
			"a variable": func(_, run map[string]any) { run["Env"] = []string{"X=1"} },
			"a label":    func(_, run map[string]any) { run["Labels"].(map[string]any)["x"] = "1" },
			"a layer": func(c, _ map[string]any) {
				c["rootfs"] = map[string]any{"diff_ids": []string{"sha256:1",
					"sha256:2"}}
			},
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
				t.Errorf("%s with %s of another: still its label", name, derived)
			}
		}
	}
	if _, ok := ReadLabel([]byte("[]")); ok {
		t.Error("what is no config has a label")
	}
}
