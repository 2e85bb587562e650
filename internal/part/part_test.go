package part

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/ecsbuild/ecsbuild/internal/image"
	"github.com/ecsbuild/ecsbuild/internal/plan"
)

func manifest(text string) []image.Manifest {
	data := fmt.Appendf(nil, `{"schemaVersion":2,"x":%q}`, text)
	return []image.Manifest{{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(data), Data: data}}
}

func sample() File {
	return File{Registry: "r.example", Commit: "0123456789abcdef", Plan: []string{"image web", "  tags v1"},
		Images: []Image{{Name: "web", Manifests: manifest("web")}}}
}

// TestRead: what is written is read again, and nothing else is.
func TestRead(t *testing.T) {
	data, err := Encode(sample())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "part.json")
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := Read(t.Context(), file)
	if diff := cmp.Diff(sample(), got); diff != "" || err != nil || !IsPart(data) {
		t.Error(diff, err)
	}
	encode := func(change func(*File)) []byte {
		f := sample()
		change(&f)
		data, err := Encode(f)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for want, data := range map[string][]byte{
		"this is no file of ecsbuild run --part":         []byte(`[{"name":"web","imageUri":"x"}]`),
		"the file is not whole":                          data[:len(data)-10],
		"the file has changed since it was written":      bytes.Replace(data, []byte("r.example"), []byte("q.example"), 1),
		"another version of ecsbuild has written this":   bytes.Replace(data, []byte("part 1"), []byte("part 2"), 1),
		"the file has no manifest of web":                encode(func(f *File) { f.Images[0].Manifests = nil }),
		"the file has a manifest of web that is not sha": encode(func(f *File) { f.Images[0].Manifests[0].Data = []byte("{}") }),
	} {
		if _, err := Decode(data); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, not %s", err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	data, err := Encode(sample())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Decode(data)
		if err != nil {
			return
		}
		_, _ = Join(Whole{Images: []plan.Image{{ID: "web", Build: plan.Build{Platforms: []string{"linux/amd64"}}}},
			Lines: file.Plan, Commit: file.Commit}, []Named{{file, "a"}})
	})
}

// TestJoin: every image is there once, or each of its platforms is.
func TestJoin(t *testing.T) {
	whole := Whole{Lines: sample().Plan, Commit: sample().Commit, Images: []plan.Image{{ID: "web"},
		{ID: "both", Build: plan.Build{Platforms: []string{"linux/amd64", "linux/arm64/v8"}}}}}
	web := Named{sample(), "web.json"}
	of := func(name string, images ...Image) Named {
		f := sample()
		f.Images = images
		return Named{f, name}
	}
	amd := of("amd.json", Image{"both", []string{"linux/amd64"}, Checksums(map[string]string{"V": "1"}), manifest("amd")})
	arm := of("arm.json", Image{"both", []string{"linux/arm64"}, Checksums(map[string]string{"V": "1"}), manifest("arm")})
	all := of("all.json", Image{Name: "both", Manifests: manifest("both")})
	changed := func(n Named, name string, change func(*File)) Named {
		n.Name = name
		change(&n.File)
		return n
	}

	j, err := Join(whole, []Named{arm, web, amd})
	if err != nil || j.Registry != "r.example" || len(j.Artifacts) != 2 || len(j.Warnings) > 0 {
		t.Fatal(j, err)
	}
	artifacts := j.Artifacts
	if artifacts[0].Root().Digest != manifest("web")[0].Digest || len(artifacts[1].Manifests) != 3 ||
		artifacts[1].Manifests[0].Digest != manifest("amd")[0].Digest {
		t.Errorf("%+v", artifacts)
	}
	j, err = Join(whole, []Named{web, all})
	if err != nil || j.Artifacts[1].Root().Digest != manifest("both")[0].Digest {
		t.Error(j, err)
	}
	// The same image may be in two parts, as what the images of both are built on.
	if _, err := Join(whole, []Named{web, all, changed(all, "b.json", func(*File) {})}); err != nil {
		t.Error(err)
	}
	if _, err := Join(whole, []Named{web, amd, arm, changed(arm, "b.json", func(*File) {})}); err != nil {
		t.Error(err)
	}
	one := whole
	one.Images = []plan.Image{{ID: "both", Build: plan.Build{Platforms: []string{"linux/arm64"}}}}
	j, err = Join(one, []Named{arm})
	if err != nil || j.Artifacts[0].Root().MediaType != ocispec.MediaTypeImageManifest {
		t.Error(j, err)
	}

	// Platforms that had other arguments are told of: they may be meant to.
	other := changed(arm, "other.json", func(f *File) {
		args := Checksums(map[string]string{"V": "2", "W": ""})
		f.Images = []Image{{"both", []string{"linux/arm64"}, args, manifest("arm")}}
	})
	j, err = Join(whole, []Named{web, amd, other})
	if err != nil || len(j.Warnings) != 1 || !strings.HasSuffix(j.Warnings[0], "different build arguments: V, W") {
		t.Error(j, err)
	}
	// git may know of a commit that the environment does not, and a job without git compares none.
	from := func(n Named, checkout string) Named {
		return changed(n, n.Name, func(f *File) { f.Checkout = checkout })
	}
	if _, err := Join(whole, []Named{from(web, "a"), from(amd, ""), from(arm, "a")}); err != nil {
		t.Error(err)
	}

	for _, c := range []struct {
		parts []Named
		want  []string
	}{
		{[]Named{from(web, "a"), from(all, "b")}, []string{"all.json was built from commit b, and web.json is of commit a"}},
		{[]Named{amd}, []string{"no part has the image web", "no part has the image both for linux/arm64"}},
		{[]Named{web}, []string{"no part has the image both;"}},
		{[]Named{web, amd, arm, changed(arm, "arm2.json", func(f *File) {
			f.Images = []Image{{Name: "both", Platforms: []string{"linux/arm64"}, Manifests: manifest("another")}}
		})},
			[]string{"the image both for linux/arm64 is in several parts: arm.json and arm2.json"}},
		{[]Named{web, all, amd}, []string{"the image both is in all.json as a whole, and by platforms in other parts"}},
		{[]Named{web, all, changed(all, "b.json", func(f *File) {
			f.Images = []Image{{Name: "both", Manifests: manifest("another")}}
		})}, []string{"the image both is in several parts: all.json and b.json"}},
		{[]Named{web, web}, []string{"duplicate part web.json"}},
		{[]Named{web, changed(all, "c.json", func(f *File) { f.Registry = "other" })},
			[]string{"c.json went to other, and web.json to r.example"}},
		{[]Named{changed(web, "d.json", func(f *File) { f.Commit = "" })},
			[]string{"d.json is of an unknown commit, and this is commit 0123456789ab"}},
		{[]Named{changed(web, "e.json", func(f *File) { f.Plan = f.Plan[:1] })},
			[]string{`e.json is of another plan: it has nothing more where this plan has "tags v1"`}},
	} {
		_, err := Join(whole, c.parts)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v has not %s", err, want)
			}
		}
	}
}
