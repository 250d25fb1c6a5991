// Shows what the broker pushes, and opens the page on a click.
addEventListener('push', event => {
  let told = {};
  try { told = event.data.json(); } catch { /* a push without data still has to show something */ }
  event.waitUntil(registration.showNotification(told.title || (told.from ? `ac7: ${told.from}` : 'ac7'), {body: told.body || '', tag: told.thread || told.id, icon: '/web/icon.svg', data: told.thread}));
});
addEventListener('notificationclick', event => {
  event.notification.close();
  const [kind, id] = String(event.notification.data || '').split(':');
  event.waitUntil(clients.openWindow(kind === 'obj' ? `/#/objective/${encodeURIComponent(id)}` : '/'));
});
