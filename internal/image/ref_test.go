package image

import "testing"

func TestRef(t *testing.T) {
	r := Ref{Registry: "registry.example:5000", Repository: "shop/web", Tag: "v1"}
	for got, want := range map[string]string{
		r.Name():                           "registry.example:5000/shop/web",
		r.String():                         "registry.example:5000/shop/web:v1",
		r.WithDigest("sha256:00").String(): "registry.example:5000/shop/web:v1@sha256:00",
		r.ByDigest("sha256:00").String():   "registry.example:5000/shop/web@sha256:00",
		r.ByDigest("sha256:00").WithTag("v2").String(): "registry.example:5000/shop/web:v2",
		Ref{Repository: "web", Tag: "v1"}.String():     "web:v1",
	} {
		if got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
