// The 28 families in the order of the set's files. Tier A: seen in training; B: unseen; C: unseen and hard
// (ultra-heavy or cursive). One weight each.
const weights = { 'lxgw-wenkai': 300 };
const tierB = ['zen-old-mincho', 'kiwi-maru', 'yomogi', 'yusei-magic'];
const tierC = [
  'dela-gothic-one',
  'zcool-qingke-huangyou',
  'ma-shan-zheng',
  'long-cang',
  'liu-jian-mao-cao',
  'zhi-mang-xing',
];

export const families = [
  'noto-sans-jp',
  'noto-serif-jp',
  'biz-udgothic',
  'dela-gothic-one',
  'dotgothic16',
  'ibm-plex-sans-jp',
  'kaisei-opti',
  'kiwi-maru',
  'kosugi-maru',
  'line-seed-jp',
  'lxgw-wenkai',
  'm-plus-rounded-1c',
  'mochiy-pop-one',
  'shippori-mincho',
  'yomogi',
  'yusei-magic',
  'zen-kaku-gothic-new',
  'zen-kurenaido',
  'zen-maru-gothic',
  'zen-old-mincho',
  'zcool-kuaile',
  'zcool-xiaowei',
  'zcool-qingke-huangyou',
  'ma-shan-zheng',
  'long-cang',
  'liu-jian-mao-cao',
  'zhi-mang-xing',
  'noto-serif-sc',
].map((name) => ({
  name,
  weight: weights[name] ?? 400,
  tier: tierB.includes(name) ? 'B' : tierC.includes(name) ? 'C' : 'A',
}));
