#!/bin/sh
# One monitor, one manager, one object store in memory and one gateway with object lock, lifecycle and three classes.
# Users and their keys come from the environment: "name:access:secret[:caps]" a word.
set -eu

ip=$(hostname -i | cut -d' ' -f1)
fsid=00000000-0000-4000-8000-000000000001
cat >/etc/ceph/ceph.conf <<CONF
[global]
fsid = $fsid
mon initial members = a
mon host = [v2:$ip:3300,v1:$ip:6789]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon warn on pool no redundancy = false
log to file = false
log to stderr = false
[osd]
osd objectstore = memstore
memstore device bytes = 1073741824
osd memory target = 939524096
[client.rgw.a]
rgw frontends = beast port=8000
rgw lc debug interval = 10
rgw crypt require ssl = false
rgw enable usage log = false
keyring = /etc/ceph/rgw.keyring
CONF

ceph-authtool --create-keyring /tmp/mon.keyring --gen-key -n mon. --cap mon 'allow *' >/dev/null
ceph-authtool --create-keyring /etc/ceph/ceph.client.admin.keyring --gen-key -n client.admin \
  --cap mon 'allow *' --cap osd 'allow *' --cap mgr 'allow *' >/dev/null
ceph-authtool /tmp/mon.keyring --import-keyring /etc/ceph/ceph.client.admin.keyring >/dev/null
monmaptool --create --addv a "[v2:$ip:3300,v1:$ip:6789]" --fsid $fsid /tmp/monmap >/dev/null
mkdir -p /var/lib/ceph/mon/ceph-a /var/lib/ceph/mgr/ceph-a /var/lib/ceph/osd/ceph-0 /run/ceph
ceph-mon --mkfs -i a --monmap /tmp/monmap --keyring /tmp/mon.keyring
ceph-mon -i a
ceph auth get-or-create mgr.a mon 'allow profile mgr' osd 'allow *' -o /var/lib/ceph/mgr/ceph-a/keyring
ceph-mgr -i a &
uuid=$(cat /proc/sys/kernel/random/uuid)
ceph osd new "$uuid" >/dev/null
ceph auth get-or-create osd.0 osd 'allow *' mon 'allow profile osd' mgr 'allow profile osd' \
  -o /var/lib/ceph/osd/ceph-0/keyring
ceph-osd -i 0 --mkfs --osd-uuid "$uuid"
ceph-osd -i 0
ceph auth get-or-create client.rgw.a mon 'allow rw' osd 'allow rwx' -o /etc/ceph/rgw.keyring

# The first user makes the zone; only then it can be given further classes.
for each in $CEPH_USERS; do
  name=$(echo "$each" | cut -d: -f1)
  radosgw-admin user create --uid="$name" --display-name="$name" \
    --access-key="$(echo "$each" | cut -d: -f2)" --secret-key="$(echo "$each" | cut -d: -f3)" >/dev/null
done
for class in STANDARD_IA GLACIER; do
  radosgw-admin zonegroup placement add --rgw-zonegroup=default --placement-id=default-placement --storage-class=$class >/dev/null
  radosgw-admin zone placement add --rgw-zone=default --placement-id=default-placement --storage-class=$class \
    --data-pool=default.rgw.$(echo $class | tr '[:upper:]_' '[:lower:]-').data >/dev/null
done
exec radosgw -n client.rgw.a -f
