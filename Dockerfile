# ecsbuild's own image: the static binary and CA certificates. `make image`
# puts both into dist/image, which is the context.
FROM scratch
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY ecsbuild /usr/local/bin/ecsbuild
ENV PATH=/usr/local/bin
ENTRYPOINT ["ecsbuild"]
CMD ["--help"]
