# ecsbuild's own image: the static binary and CA certificates.
#
#   docker build -t ecsbuild https://github.com/ecsbuild/ecsbuild.git
#
# A named context can replace the build stage, as `make image` does with a binary that is
# there already: docker build --build-context build=dist/image .
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN mkdir /out && cp /etc/ssl/certs/ca-certificates.crt /out/ && \
    make build OUT=/out/ecsbuild ${VERSION:+VERSION=$VERSION}

FROM scratch
COPY --from=build /out/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /out/ecsbuild /usr/local/bin/ecsbuild
ENV PATH=/usr/local/bin
ENTRYPOINT ["ecsbuild"]
CMD ["--help"]
