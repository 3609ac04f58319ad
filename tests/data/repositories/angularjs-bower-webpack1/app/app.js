require('angular/angular.js');

window.angular.module('shop', []).run(['$rootScope', function ($rootScope) {
  $rootScope.title = 'shop';
}]);
