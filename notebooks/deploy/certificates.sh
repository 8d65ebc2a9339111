#!/usr/bin/env bash
# Certificates for a Dask cluster that speaks TLS: a private authority, and one certificate for each role.
#
#   bash certificates.sh FOLDER     # once; then copy FOLDER, over SSH, to every node and to the notebooks' machine
#   source FOLDER/tls.env           # on each of them, before by_address.sh or Jupyter
#
# ssh_cluster.py sends its own settings along: source tls.env before it, and have FOLDER at the same path on all hosts.
# This is for Dask's messages. The dashboard, NCCL and UCX are not encrypted: for them, use a private network.
#
# Dask asks both sides for a certificate of this authority, and for no name or host in it. So whoever has one of these
# keys is in: runs code on the workers, and reads what they send. They are valid for a year; then make a new folder.
set -euo pipefail
if [ $# != 1 ]; then echo "usage: bash certificates.sh FOLDER" >&2; exit 2; fi
folder="$(realpath -m "$1")"
if [ -e "$folder" ]; then echo "$folder is there already: nothing is overwritten. Name a new folder." >&2; exit 1; fi
umask 077  # keys, and the folder itself, are for this user alone
mkdir -p "$(dirname "$folder")"
new="$(mktemp -d "$folder.XXXXXX")"
trap 'rm -rf "$new"' EXIT  # where something fails, nothing is left
cd "$new"

new_key=(-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout)
quiet() { openssl "$@" 2> openssl.log || { cat openssl.log >&2; exit 1; }; }
quiet req -x509 "${new_key[@]}" ca-key.pem -out ca.pem -days 365 -subj "/CN=the tutorial's cluster" \
  -addext keyUsage=critical,keyCertSign
for role in scheduler worker client; do
  # the scheduler and the workers accept connections and open some; a client only opens them
  uses=clientAuth
  if [ "$role" != client ]; then uses+=,serverAuth; fi
  quiet req "${new_key[@]}" "$role-key.pem" -subj "/CN=$role" -out request.pem
  quiet x509 -req -in request.pem -CA ca.pem -CAkey ca-key.pem -CAcreateserial -days 365 -out "$role.pem" \
    -extfile <(printf 'basicConstraints=critical,CA:false\nextendedKeyUsage=%s\n' "$uses")
done
rm -f ca-key.pem ca.srl request.pem openssl.log  # without the authority's key nobody can add a certificate

cat > tls.env <<'END'
# Dask's settings for TLS, for bash: source this file, wherever its folder lies
_tls="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True
export DASK_DISTRIBUTED__COMM__TLS__CA_FILE="$_tls/ca.pem"
export DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__CERT="$_tls/scheduler.pem"
export DASK_DISTRIBUTED__COMM__TLS__SCHEDULER__KEY="$_tls/scheduler-key.pem"
export DASK_DISTRIBUTED__COMM__TLS__WORKER__CERT="$_tls/worker.pem"
export DASK_DISTRIBUTED__COMM__TLS__WORKER__KEY="$_tls/worker-key.pem"
export DASK_DISTRIBUTED__COMM__TLS__CLIENT__CERT="$_tls/client.pem"
export DASK_DISTRIBUTED__COMM__TLS__CLIENT__KEY="$_tls/client-key.pem"
export TUTORIAL_PROTOCOL=tls  # for by_address.sh
unset _tls
END
mv -T "$new" "$folder"
echo "$folder is ready. On every node and for the notebooks: source $folder/tls.env"
