#!/bin/sh
# Makes certificates for the buildkitd of buildkitd.yml, and for those who may build with it:
#
#   ./certificates.sh NAME FOLDER
#
# NAME is that by which it is reached, as buildkitd.ci.svc; the certificate is for *.NAME, too. FOLDER/daemon is for the Secret of the
# cluster, FOLDER/client for BUILDKIT_CERT_PATH. Whoever has FOLDER/client can run anything there.
set -eu
name=${1:?the name of the buildkitd is missing} to=${2:?the folder is missing}
umask 077
mkdir -p "$to/daemon" "$to/client"
days=365

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1"; }

# issue FOLDER SUBJECT EXTENSIONS: a certificate of the authority.
issue() {
  key "$1/key.pem"
  openssl req -new -key "$1/key.pem" -subj "/CN=$2" -out "$to/request.pem"
  echo "$3" >"$to/extensions"
  openssl x509 -req -in "$to/request.pem" -CA "$to/ca.pem" -CAkey "$to/ca-key.pem" -CAcreateserial -days $days \
    -extfile "$to/extensions" -out "$1/cert.pem" 2>/dev/null
  cp "$to/ca.pem" "$1/ca.pem"
  rm "$to/request.pem" "$to/extensions"
}

key "$to/ca-key.pem"
openssl req -x509 -new -key "$to/ca-key.pem" -days $days -subj "/CN=buildkitd authority" -out "$to/ca.pem"
issue "$to/daemon" "$name" "subjectAltName=DNS:$name,DNS:*.$name,DNS:localhost,IP:127.0.0.1
extendedKeyUsage=serverAuth"
issue "$to/client" "builds" "extendedKeyUsage=clientAuth"
