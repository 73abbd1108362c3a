import type { Tide } from './tide';
import { describe, count } from './tide.js';
import tides from './tides.json' with { type: 'json' };

const list = document.querySelector<HTMLUListElement>('#list')!;
for (const tide of tides as Tide[]) {
  const item: HTMLLIElement = document.createElement('li');
  item.textContent = describe(tide);
  list.append(item);
}
const late = await import('./late.js');
document.title = late.title(count);
